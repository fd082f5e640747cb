"""What every test stands on: tiny random encoders, separable texts, a clean environment, no network."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Read when torch is first imported: networks this small only lose by sharing work out, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
# Read when huggingface_hub is first imported, which collecting tests may do: offline, with a cache of the tests' own.
_HOME = tempfile.TemporaryDirectory(prefix="headstart-tests-")
os.environ["HF_HOME"] = os.path.join(_HOME.name, "huggingface")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)

POSITIVE = ("good", "great", "lovely", "superb", "charming", "warm", "bright", "brilliant")
NEGATIVE = ("bad", "awful", "boring", "dull", "weak", "poor", "cold", "dreadful")
MIDDLING = ("fair", "plain", "average", "usual", "common", "medium", "normal", "ordinary")
_NEUTRAL = """
the a an this that film movie story plot actor scene room hotel dress it was is and but very quite rather
of in on with for to by at from as we they he she you i had has have been be not no so then there here
first second last one two three day night week year time place people man woman child music end start
"""
NEUTRAL = tuple(_NEUTRAL.split())
PIECES = ("##s", "##ed", "##ing", "##ly", "un", "##a", "##b", "##c", "b", "c", "d", "##d", "##e", "##n", ".", ",", "!")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = list(dict.fromkeys([*SPECIALS, *NEUTRAL, *POSITIVE, *NEGATIVE, *MIDDLING, *PIECES]))

_COMMON = {
    "vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2,
    "eos_token_id": 3, "sep_token_id": 3, "initializer_range": 0.1,
}  # fmt: skip
_BERT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "type_vocab_size": 2,
}  # fmt: skip
# Architecture name to (model class, configuration values, whether it tells the texts of a pair apart by segment ids).
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "bert": ("Bert", _BERT, True),
    "distilbert": (
        "DistilBert",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
        False,
    ),
    "roberta": ("Roberta", {**_BERT, "type_vocab_size": 1}, False),
    "xlm-roberta": ("XLMRoberta", {**_BERT, "type_vocab_size": 1}, False),
    "mpnet": ("MPNet", {**_BERT}, False),
    "albert": ("Albert", {**_BERT, "embedding_size": 16}, True),
    "electra": ("Electra", {**_BERT, "embedding_size": 16}, True),
    "deberta-v2": (
        "DebertaV2",
        {
            **_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
            "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False,
            "type_vocab_size": 0, "pooler_hidden_size": 32,
        },
        False,
    ),
    "xlnet": ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}, True),
    "modernbert": (
        "ModernBert",
        {**{k: v for k, v in _BERT.items() if k != "type_vocab_size"}, "reference_compile": False},
        False,
    ),
}  # fmt: skip


def make_tokenizer(*, segments: bool = True, left: bool = False) -> Any:
    """Return a fast WordPiece tokenizer over about 120 words; segment ids only where asked for."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    index = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(index, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    kind = ":1" if segments else ":0"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B{kind} [SEP]{kind}",
        special_tokens=[("[CLS]", index["[CLS]"]), ("[SEP]", index["[SEP]"])],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if segments else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=names, padding_side="left" if left else "right",
    )  # fmt: skip


def make_checkpoint(architecture: str, folder: Path, *, seed: int = 20, **changes: Any) -> Path:
    """Write a tiny random encoder of an architecture: base weights only, no head, no pooler.

    Args:
        architecture: a key of `ARCHITECTURES`.
        folder: where to write.
        seed: of the weights; not one that fits use, else weights from scratch would be the same.
        changes: configuration values that replace the tiny ones.
    """
    import torch

    name, values, segments = ARCHITECTURES[architecture]
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{name}Config")(**{**_COMMON, **values, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config)
    weights = {key: tensor for key, tensor in model.state_dict().items() if "pooler" not in key}
    model.save_pretrained(str(folder), state_dict=weights)
    make_tokenizer(segments=segments, left=architecture == "xlnet").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the tests' own, no GPU, no server: nothing of the user's machine is seen or written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "XDG_CACHE_HOME", "HEADSTART_THREADS"):
            patch.delenv(name, raising=False)
        patch.setenv("HEADSTART_CACHE", str(home / "headstart"))
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache, an empty model registry and the same random state."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "headstart-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "headstart-data"))
    np.random.seed(0)  # noqa: NPY002  # libraries that draw from the global state shall draw the same


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT: 2 layers, width 32, 4 heads, about 120 words, at most 64 tokens."""
    return make_checkpoint("bert", tmp_path_factory.mktemp("encoders") / "tiny-bert")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture's name to the folder of a tiny random encoder, made once."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = make_checkpoint(architecture, tmp_path_factory.mktemp("encoders") / architecture)
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and encoders that lies beside the project, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs real data in ../shared, which is not part of the project")
    return folder


def separable_texts(n: int, classes: int = 2, seed: int = 0, words: int = 6) -> tuple[list[str], list[int]]:
    """Return N texts whose class shows in two of their words, and their classes, balanced and shuffled."""
    groups = (NEGATIVE, POSITIVE, MIDDLING)
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(n) % classes)
    texts = []
    for c in y:
        chosen = [*generator.choice(NEUTRAL, size=generator.integers(2, words)), *generator.choice(groups[c], size=2)]
        texts.append(" ".join(generator.permutation(chosen)))
    return texts, [int(c) for c in y]


def tiny_task(
    n: int = 48,
    n_validation: int = 24,
    *,
    values: tuple[Any, ...] = ("negative", "positive"),
    pairs: bool = False,
    seed: int = 0,
    data_seed: int = 0,
    encoder: Path | None = None,
    **changes: Any,
) -> Any:
    """Return a `Task` of separable texts.

    Args:
        n: training texts.
        n_validation: validation texts.
        values: label values; two or three.
        pairs: whether each example is two texts.
        seed: of the fit.
        data_seed: of the texts.
        encoder: folder to start from.
        changes: other fields of the task.
    """
    from headstart.data.examples import Examples
    from headstart.data.labels import Labels
    from headstart.models.batching import TextSettings
    from headstart.models.encoders import Encoder
    from headstart.models.runtime import Runtime
    from headstart.strategies.task import Task

    texts, y = separable_texts(n + n_validation, len(values), data_seed)
    second = [" ".join(reversed(t.split())) for t in texts] if pairs else None
    examples = Examples.of(texts, y, pairs=second)
    fields: dict[str, Any] = {
        "labels": Labels.of(values),
        "train": examples.take(range(n)),
        "validation": examples.take(range(n, n + n_validation)),
        "text": TextSettings(max_length=32),
        "runtime": Runtime(),
        "seed": seed,
        "encoder": None if encoder is None else Encoder(str(encoder), encoder),
    }
    return Task(**{**fields, **changes})


# Tiny networks learn in a second at rates that would ruin pretrained ones.
_NETWORK = {"learning_rate": 5e-3, "epochs": 8, "batch_size": 8, "patience": 8}
QUICK: dict[str, dict[str, Any]] = {
    "scratch-gru": {
        **_NETWORK,
        "learning_rate": 2e-2,
        "epochs": 15,
        "dropout": 0.1,
        "min_count": 1,
        "embedding_size": 16,
        "hidden_size": 8,
    },
    "scratch-transformer": _NETWORK,
    "boosted": {"trees": 60, "learning_rate": 0.2},
    "partial": {**_NETWORK, "epochs": 12},
    "gradual": {**_NETWORK, "learning_rate": 2e-2, "factor": 1.5, "epochs": 12},
    "full": _NETWORK,
    "lora": {**_NETWORK, "learning_rate": 1e-2},
    "contrastive": {"learning_rate": 5e-3, "steps": 30, "texts": 8},
}


def fit_strategy(name: str, task: Any, **settings: Any) -> Any:
    """Fit a strategy, settings for tiny networks first, ``settings`` over them; return its `Fitted`."""
    from headstart.strategies import table

    plan = table.plan(name)
    values = {**QUICK.get(plan.strategy.name, {}), **settings}
    return table.fit(plan, task, table.config_for(plan, {plan.strategy.name: values}))


def source_model(folder: Path, encoder: Path, values: tuple[Any, ...], order: tuple[int, ...] | None) -> Any:
    """Train a source classifier with label ``values`` on texts of its own, save it, return its `SourceModel`."""
    from headstart.models import folder as model_folder
    from headstart.models.encoders import Encoder
    from headstart.strategies.task import SourceModel

    task = tiny_task(values=values, data_seed=5, encoder=encoder)
    fitted = fit_strategy("full", task)
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card={"strategy": "full"})
    return SourceModel(Encoder(str(folder), folder), task.labels, order, "" if order else "the labels do not match")


@pytest.fixture(scope="session")
def sources(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """Return a function from a number of classes (2 or 3) to a source model with as many, made once."""
    made: dict[int, Any] = {}

    def make(classes: int = 2) -> Any:
        if classes not in made:
            values = ("bad", "good", "middling")[:classes]
            folder = tmp_path_factory.mktemp("sources") / f"source-{classes}"
            made[classes] = source_model(folder, tiny_encoder, values, tuple(range(classes)))
        return made[classes]

    return make


@pytest.fixture(scope="session")
def model_of(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function from a strategy to the folder of a tiny model of it, made once; labels neg and pos."""
    from headstart.models import folder

    made: dict[str, Path] = {}

    def make(
        strategy: str, *, values: tuple[Any, ...] = ("neg", "pos"), pairs: bool = False, data_seed: int = 0
    ) -> Path:
        key = f"{strategy}-{values}-{pairs}-{data_seed}"
        if key not in made:
            encoder = None if strategy in ("tfidf", "majority") else tiny_encoder
            task = tiny_task(values=values, pairs=pairs, encoder=encoder)
            card = {
                "strategy": strategy,
                "text_columns": ["text", "answer"] if pairs else ["text"],
                "label_column": "label",
                "fingerprints": {"train": task.train.fingerprint()},
                "metrics": {"holdout": {"accuracy": 0.9, "macro_f1": 0.875}},
            }
            fitted = fit_strategy(strategy, task)
            made[key] = tmp_path_factory.mktemp("made") / "best"
            folder.save(fitted.classifier, made[key], text=task.text, check=task.validation, card=card)
        return made[key]

    return make


@pytest.fixture(scope="session")
def _registry_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's database without models: making its tables takes longer than all a test does with them."""
    from headstart.registry import Registry

    file = tmp_path_factory.mktemp("tables") / "registry.db"
    Registry.open(f"sqlite:///{file}")
    return file


@pytest.fixture
def own_registry(_registry_tables: Path, _own_cache: None, tmp_path: Path) -> Path:
    """Give the test the user's default registry, empty; return its database."""
    file = tmp_path / "headstart-data" / "headstart" / "registry.db"
    file.parent.mkdir(parents=True)
    shutil.copy(_registry_tables, file)
    return file


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real `mlflow server` on a free loopback port."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers, at most 90 seconds."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"mlflow server did not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def products() -> Iterator[list[int]]:
    """Yield a list that grows by one whenever a matrix of a layer is multiplied with, in a second computation too."""
    import torch

    calls: list[int] = []

    def see(module: torch.nn.Module, *_: Any) -> None:
        if type(module).__name__ in ("Linear", "Conv1D"):
            calls.append(1)

    handle = torch.nn.modules.module.register_module_forward_hook(see)
    try:
        yield calls
    finally:
        handle.remove()
