"""Encoders found by every kind of name, loaded whole, in float32, with fresh heads that are told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import ARCHITECTURES, make_checkpoint, separable_texts
from headstart import TextFeatures, TransferClassifier, catalog
from headstart.data.labels import Labels
from headstart.errors import ModelError
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.loading import load_body, load_classifier, load_tokenizer, new_classifier

LABELS = Labels.of(["a", "b", "c"])
COMMIT, OLDER = "a" * 40, "b" * 40
every_architecture = pytest.mark.parametrize("architecture", list(ARCHITECTURES))


@pytest.fixture
def copied(tiny_encoder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copied"
    shutil.copytree(tiny_encoder, folder)
    return folder


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


# --- the hub's cache


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; the hub itself is out of reach."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def put_in_cache(hub: Path, source: Path, name: str, commit: str, ref: str, *, leave_out: str = "") -> Path:
    """Lay a folder out as the hub's client does: blobs by hash, links to them under the commit, names of commits."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    for file in source.iterdir():
        if file.name == leave_out:
            continue
        blob = repository / "blobs" / f"{commit[:4]}-{file.name.replace('.', '-')}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_hub_name_is_found_in_the_cache(hub: Path, tiny_encoder: Path) -> None:
    snapshot = put_in_cache(hub, tiny_encoder, "someone/tiny", COMMIT, "main")
    encoder = find_encoder("someone/tiny")
    assert encoder.folder == snapshot
    assert encoder.name == "someone/tiny"
    assert encoder.fingerprint == Encoder("x", tiny_encoder).fingerprint
    stored = load_file(tiny_encoder / "model.safetensors")
    body = load_body(encoder.folder).state_dict()
    assert all(torch.equal(body[name], tensor) for name, tensor in stored.items())
    assert load_tokenizer(encoder.folder)("a good film")["input_ids"]


def test_hub_name_without_owner_and_catalog_names_use_the_cache(hub: Path, tiny_encoder: Path) -> None:
    put_in_cache(hub, tiny_encoder, "tiny", COMMIT, "main")
    put_in_cache(hub, tiny_encoder, catalog.ENCODERS["distilbert"].hub, COMMIT, "main")
    assert find_encoder("tiny").config.model_type == "bert"
    assert find_encoder("distilbert").name == "distilbert"


def test_revision_chooses_the_snapshot(hub: Path, tiny_encoder: Path, checkpoint: Callable[[str], Path]) -> None:
    put_in_cache(hub, tiny_encoder, "someone/tiny", COMMIT, "main")
    put_in_cache(hub, checkpoint("roberta"), "someone/tiny", OLDER, "v1")
    assert find_encoder("someone/tiny").config.model_type == "bert"
    for revision in ("v1", OLDER):
        encoder = find_encoder("someone/tiny", revision)
        assert encoder.config.model_type == "roberta"
        assert encoder.revision == revision
    assert find_encoder("someone/tiny", COMMIT).config.model_type == "bert"
    with pytest.raises(ModelError, match="not on this machine"):
        find_encoder("someone/tiny", "v2")


def test_revision_reaches_the_doors_of_scikit_learn(
    hub: Path, tiny_encoder: Path, checkpoint: Callable[[str], Path]
) -> None:
    put_in_cache(hub, tiny_encoder, "someone/tiny", COMMIT, "main")
    put_in_cache(hub, checkpoint("roberta"), "someone/tiny", OLDER, "v1")
    texts, classes = separable_texts(24)
    for options, kind in (({}, "bert"), ({"revision": "v1"}, "roberta")):
        step = TextFeatures("someone/tiny", precision="float32", **options).fit(texts)
        assert step.encoder_.config.model_type == kind
        model = TransferClassifier(encoder="someone/tiny", precision="float32", **options).fit(texts, classes)
        assert model.classifier_.extractor.body.config.model_type == kind


def test_cached_snapshot_without_weights_is_not_taken(hub: Path, tiny_encoder: Path) -> None:
    put_in_cache(hub, tiny_encoder, "someone/tiny", COMMIT, "main", leave_out="model.safetensors")
    with pytest.raises(ModelError, match="someone/tiny"):
        find_encoder("someone/tiny")


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "unreachable"])
def test_missing_hub_name_fails_at_once_with_remedies(
    offline: bool, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    start = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        find_encoder("someone/nothing")
    assert time.perf_counter() - start < 2
    for words in ("'someone/nothing'", "not on this machine", "--encoder ./folder", "--encoder minilm", "connected"):
        assert words in str(caught.value)


def test_misspelled_and_malformed_names(hub: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'minilm'"):
        find_encoder("minilmm")
    with pytest.raises(ModelError, match="well-formed hub name"):
        find_encoder("a/b/c")


def test_packaged_encoder_is_found_without_a_hub(hub: Path) -> None:
    folder = catalog.packaged_folder("minilm")
    if folder is None or not folder.is_dir():
        pytest.skip("needs the packaged minilm (headstart[samples])")
    assert find_encoder("minilm").folder == folder
    with pytest.raises(ModelError, match="not on this machine"):
        find_encoder("minilm", "v1")  # a revision is the hub's


# --- folders


def test_local_folder(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_encoder(str(tiny_encoder)).folder == tiny_encoder
    monkeypatch.chdir(tiny_encoder.parent)
    assert find_encoder(f"./{tiny_encoder.name}").config.model_type == "bert"
    monkeypatch.setenv("HOME", str(tiny_encoder.parent))
    assert find_encoder(f"~/{tiny_encoder.name}").config.model_type == "bert"


def test_file_or_missing_folder_in_place_of_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in (str(tmp_path / "file"), "./nowhere", str(tmp_path / "nowhere"), "~/nowhere"):
        with pytest.raises(ModelError, match="is not a folder"):
            find_encoder(name)


def _pickle_instead(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _without_model_type(folder: Path) -> None:
    change_config(folder, model_type=None)
    file = folder / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "model_type"}))


FAULTS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no config": (lambda f: (f / "config.json").unlink(), ["no config.json"]),
    "bad JSON": (lambda f: (f / "config.json").write_text('{"model_type": "bert",'), ["not valid JSON", "again"]),
    "config is no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x80"), ["not valid JSON"]),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), ["model_type"]),
    "no model type": (_without_model_type, ["no model_type"]),
    "own code": (lambda f: change_config(f, auto_map={"AutoModel": "x.Model"}), ["auto_map", "not loaded"]),
    "pickle only": (_pickle_instead, ["pytorch_model.bin", "not read for safety", "save_pretrained"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no safetensors weights", "save_pretrained"]),
    "truncated weights": (_truncate_weights, ["model.safetensors", "damaged or truncated", "again"]),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), ["damaged or truncated"]),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_damaged_folder_gets_one_clear_error(fault: str, copied: Path) -> None:
    damage, words = FAULTS[fault]
    damage(copied)
    with pytest.raises(ModelError) as caught:
        find_encoder(str(copied))
    assert str(copied) in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "load"),
    [
        (lambda f: change_config(f, model_type="bertt"), load_body),
        (lambda f: change_config(f, model_type="bertt"), load_tokenizer),
        (lambda f: change_config(f, hidden_size=48), load_body),
        (lambda f: change_config(f, hidden_size=48), lambda f: load_classifier(f, LABELS, seed=0)),
        (lambda f: change_config(f, num_hidden_layers=3), load_body),
        (lambda f: change_config(f, num_hidden_layers=3), lambda f: load_classifier(f, LABELS, seed=0)),
        (_without_tokenizer, load_tokenizer),
        (lambda f: (f / "tokenizer.json").write_text("{"), load_tokenizer),
    ],
    ids=[
        "unknown architecture", "tokenizer of an unknown architecture", "other width", "other width under a head",
        "more layers", "more layers under a head", "no tokenizer", "damaged tokenizer",
    ],
)  # fmt: skip
def test_folder_that_cannot_be_loaded_gets_one_clear_error(damage: Any, load: Any, copied: Path) -> None:
    damage(copied)
    with pytest.raises(ModelError) as caught:
        load(copied)
    assert str(copied) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_planted_pickle_beside_safetensors_is_ignored(copied: Path, tiny_encoder: Path) -> None:
    (copied / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")
    found = find_encoder(str(copied))
    theirs = load_body(tiny_encoder).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in load_body(found.folder).state_dict().items())


def test_sharded_checkpoint_loads(tiny_encoder: Path, tmp_path: Path) -> None:
    body = load_body(tiny_encoder)
    body.save_pretrained(str(tmp_path), max_shard_size="20KB")
    load_tokenizer(tiny_encoder).save_pretrained(str(tmp_path))
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    again = load_body(find_encoder(str(tmp_path)).folder).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in body.state_dict().items())
    damaged = sorted(tmp_path.glob("model-*.safetensors"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ModelError, match=damaged.name):
        find_encoder(str(tmp_path))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoint_loads_as_float32(kind: torch.dtype, copied: Path) -> None:
    file = copied / "model.safetensors"
    halves = {name: t.to(kind) if t.is_floating_point() else t for name, t in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    change_config(copied, dtype=str(kind).removeprefix("torch."))
    body = load_body(copied)
    classifier, _fresh = load_classifier(copied, LABELS, seed=0)
    for model in (body, classifier):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(body.get_parameter(name), halves[name].float())
    assert torch.equal(classifier.get_parameter(f"bert.{name}"), halves[name].float())


def test_fingerprint_is_of_the_content(tiny_encoder: Path, copied: Path, checkpoint: Callable[[str], Path]) -> None:
    original = Encoder("a", tiny_encoder).fingerprint
    assert Encoder("b", copied).fingerprint == original
    (copied / "README.md").write_text("words")
    (copied / "headstart.json").write_text("{}")
    assert Encoder("b", copied).fingerprint == original
    assert Encoder("a", checkpoint("roberta")).fingerprint != original
    change_config(copied, hidden_act="relu")
    assert Encoder("b", copied).fingerprint != original


# --- how many tokens fit


@pytest.mark.parametrize(
    ("architecture", "padding", "limit"),
    [
        ("bert", 0, 64), ("distilbert", 0, 64), ("albert", 0, 64), ("electra", 0, 64),
        ("roberta", 0, 63), ("roberta", 1, 62), ("roberta", 5, 58), ("xlm-roberta", 1, 62), ("mpnet", 1, 62),
    ],
)  # fmt: skip
def test_token_limit_is_the_most_the_encoder_reads(architecture: str, padding: int, limit: int, tmp_path: Path) -> None:
    folder = make_checkpoint(architecture, tmp_path, pad_token_id=padding)
    assert Encoder("x", folder).token_limit() == limit
    body = load_body(folder)
    ids = torch.full((1, limit + 1), 9)
    with torch.inference_mode():
        assert body(input_ids=ids[:, :limit]).last_hidden_state.shape == (1, limit, 32)
        with pytest.raises((IndexError, RuntimeError)):
            body(input_ids=ids)


def test_relative_positions_have_no_limit(checkpoint: Callable[[str], Path]) -> None:
    assert Encoder("x", checkpoint("xlnet")).token_limit() > 100_000


# --- classifiers on an encoder without a head

POOLER_AND_CLASSIFIER = ["{}.pooler.dense.weight", "{}.pooler.dense.bias", "classifier.weight", "classifier.bias"]
TWO_LAYERS = [
    "classifier.dense.weight",
    "classifier.dense.bias",
    "classifier.out_proj.weight",
    "classifier.out_proj.bias",
]
FRESH = {
    "bert": POOLER_AND_CLASSIFIER,
    "distilbert": ["pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"],
    "roberta": TWO_LAYERS,
    "xlm-roberta": TWO_LAYERS,
    "mpnet": TWO_LAYERS,
    "albert": ["albert.pooler.weight", "albert.pooler.bias", "classifier.weight", "classifier.bias"],
    "electra": TWO_LAYERS,
    "deberta-v2": ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"],
    "xlnet": [
        "sequence_summary.summary.weight", "sequence_summary.summary.bias", "logits_proj.weight", "logits_proj.bias",
    ],
    "modernbert": ["head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"],
}  # fmt: skip


@every_architecture
def test_fresh_parameters_are_told_and_the_rest_is_the_checkpoints(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    folder = checkpoint(architecture)
    model, fresh = load_classifier(folder, LABELS, seed=0)
    assert fresh == {name.format(architecture) for name in FRESH[architecture]}
    stored = load_file(folder / "model.safetensors")
    kept = {n: p for n, p in model.named_parameters() if n not in fresh}
    assert len(kept) == len(stored)
    for name, parameter in kept.items():
        assert torch.equal(parameter, stored[name.removeprefix(model.base_model_prefix + ".")]), name
    assert {n: list(p.shape) for n, p in model.named_parameters()}[list(FRESH[architecture])[-1]] == [3]


@every_architecture
def test_fresh_weights_depend_on_the_seed_alone(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(architecture)

    def fresh_weights(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(3)  # the caller's random state must not matter
        model, fresh = load_classifier(folder, LABELS, seed=seed)
        return {name: model.get_parameter(name) for name in fresh}

    first, same, other = fresh_weights(0), fresh_weights(0), fresh_weights(1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    matrices = [name for name in first if first[name].ndim == 2]
    assert matrices
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    assert all(0 < first[name].std().item() < 1 for name in matrices)


@every_architecture
def test_loading_leaves_the_callers_random_state_alone(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(architecture)
    before = torch.random.get_rng_state()
    model, _fresh = load_classifier(folder, LABELS, seed=7)
    load_body(folder)
    new_classifier(model.config, LABELS, seed=7)
    assert torch.equal(before, torch.random.get_rng_state())


@every_architecture
def test_head_is_kept_only_when_told_to(architecture: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model, _fresh = load_classifier(checkpoint(architecture), LABELS, seed=3)
    model.save_pretrained(str(tmp_path))
    kept, nothing_fresh = load_classifier(tmp_path, LABELS, seed=0, keep_head=True)
    assert nothing_fresh == set()
    theirs = dict(model.named_parameters())
    assert all(torch.equal(p, theirs[n]) for n, p in kept.named_parameters())
    renewed, fresh = load_classifier(tmp_path, LABELS, seed=0)
    # A pooler inside the body is the checkpoint's now; what lies outside the body is new.
    assert fresh == {n for n in theirs if not n.startswith(model.base_model_prefix + ".")}
    for name, parameter in renewed.named_parameters():
        if name not in fresh or parameter.ndim == 2:
            assert torch.equal(parameter, theirs[name]) == (name not in fresh), name


def test_other_number_of_labels_needs_a_new_head(tiny_encoder: Path, tmp_path: Path) -> None:
    model, _fresh = load_classifier(tiny_encoder, LABELS, seed=3)
    model.save_pretrained(str(tmp_path))
    two = Labels.of([False, True])
    other, fresh = load_classifier(tmp_path, two, seed=0)
    assert fresh == {"classifier.weight", "classifier.bias"}
    assert other.classifier.weight.shape == (2, 32)
    with pytest.raises(ModelError, match="classifier"):
        load_classifier(tmp_path, two, seed=0, keep_head=True)


def test_labels_and_changes_are_in_the_configuration(tiny_encoder: Path) -> None:
    changes = {"hidden_dropout_prob": 0.25}
    config = load_classifier(tiny_encoder, Labels.of([10, 9]), seed=0, changes=changes)[0].config
    assert config.id2label == {0: "9", 1: "10"}
    assert config.label2id == {"9": 0, "10": 1}
    assert config.num_labels == 2
    assert config.problem_type == "single_label_classification"
    assert config.hidden_dropout_prob == 0.25


def test_new_classifier_has_random_weights_of_its_seed(tiny_encoder: Path) -> None:
    config = Encoder("x", tiny_encoder).config

    def weights(seed: int) -> torch.Tensor:
        return new_classifier(config, LABELS, seed=seed).get_parameter("bert.encoder.layer.0.output.dense.weight")

    stored = load_file(tiny_encoder / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert not torch.equal(weights(1), stored)


def test_body_without_a_pooler_is_always_the_same(tiny_encoder: Path) -> None:
    one, two = load_body(tiny_encoder), load_body(tiny_encoder)
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert not one.training


def test_tokenizer_without_padding_gets_a_mark_it_has(copied: Path) -> None:
    file = copied / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}))
    tokenizer = load_tokenizer(copied)
    assert tokenizer.pad_token is not None
    assert tokenizer.pad_token in tokenizer.get_vocab()
