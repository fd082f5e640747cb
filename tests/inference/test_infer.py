"""The door itself: what is refused before and after a model is opened, and the command line."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from tiny_models import LONG, SENTENCES, labels, save_model

from conftest import make_checkpoint
from headstart import infer
from headstart.cli.main import run
from headstart.errors import ConfigError, ModelError
from headstart.inference.api import item_of, options_of, results, task_named
from headstart.inference.table import TASKS, option_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
CLASSES = {
    "sentiment": ("BertForSequenceClassification", labels("poor", "fair", "good")),
    "zero-shot": ("BertForSequenceClassification", labels("contradiction", "neutral", "entailment")),
    "ner": ("BertForTokenClassification", labels("O", "B-PER", "I-PER")),
    "fill-mask": ("BertForMaskedLM", {}),
    "features": ("BertModel", {}),
    "question": ("BertForQuestionAnswering", {}),
    "generate": ("GPT2LMHeadModel", {"n_positions": 128}),
    "summarize": ("BartForConditionalGeneration", {"max_position_embeddings": 80}),
    "translate": ("BartForConditionalGeneration", {"max_position_embeddings": 80}),
}
NEEDED = {
    "zero-shot": {"labels": "film,hotel"},
    "question": {"context": "a good film and a cold hotel"},
    "generate": {"max_new_tokens": 4},
    "summarize": {"max_new_tokens": 4},
    "translate": {"max_new_tokens": 4},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of one tiny model per task."""
    folder = tmp_path_factory.mktemp("models")
    return {task: save_model(name, folder / task, **values) for task, (name, values) in CLASSES.items()}


def call(*arguments, stdin=""):
    """Run ``headstart infer``; return its exit code, the objects it printed, and stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["infer", *map(str, arguments)])
    finally:
        sys.stdin = before
    return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_answers_in_order_with_the_keys_it_states(task, models):
    texts = [f"{text} [MASK]" if task == "fill-mask" else text for text in SENTENCES]
    found = infer(task, texts, model=str(models[task]), **NEEDED.get(task, {}))
    assert [one["text"] for one in found] == texts
    stated = {"text", *TASKS[task].keys} - ({"score_none"} if task == "question" else set())
    assert all(set(one) == stated for one in found)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert infer(task, texts[0], model=str(models[task]), **NEEDED.get(task, {}))[0].keys() == stated
    assert infer(task, [], model=str(models[task]), **NEEDED.get(task, {})) == []


def test_a_model_of_another_kind_is_refused_with_what_it_can_do(models, tiny_encoder):
    with pytest.raises(
        ModelError, match=r"needs a BertForTokenClassification.*is a BertModel; it can do --task features"
    ):
        infer("ner", SENTENCES, model=str(tiny_encoder))
    with pytest.raises(ModelError, match=r"needs a BertForTokenClassification.*can do --task sentiment or zero-shot"):
        infer("ner", SENTENCES, model=str(models["sentiment"]))  # the names of its head's weights are the same
    with pytest.raises(ModelError, match=r"needs a BertLMHeadModel.*it can do --task fill-mask"):
        infer("generate", SENTENCES, model=str(models["fill-mask"]))
    with pytest.raises(ModelError, match=r"needs a model with a MaskedLM head.*it can do --task generate"):
        infer("fill-mask", SENTENCES, model=str(models["generate"]))


@pytest.mark.parametrize("lost", ["classifier.weight", "bert.pooler.dense.weight"])
def test_a_head_or_pooler_that_is_not_stored_is_never_made_up(lost, models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models["sentiment"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=re.escape(lost)):
        infer("sentiment", SENTENCES, model=str(folder))


def test_pickles_and_code_are_refused(models, tmp_path):
    folder = shutil.copytree(models["sentiment"], tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not read for safety"):
        infer("sentiment", SENTENCES, model=str(folder))
    folder = shutil.copytree(models["sentiment"], tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    (folder / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(ModelError, match="code of its own"):
        infer("sentiment", SENTENCES, model=str(folder))


def test_a_model_that_is_not_here_fails_at_once_with_a_remedy():
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"model 'someone/nothing' is not on this machine.*--model \./folder"):
        infer("ner", SENTENCES, model="someone/nothing")
    assert time.perf_counter() - start < 3


def test_faults_of_options_are_all_said_before_a_model_is_opened():
    with pytest.raises(ConfigError, match="Did you mean 'summarize'"):
        infer("summarise", SENTENCES, model="none")
    with pytest.raises(ConfigError) as caught:
        infer("generate", SENTENCES, model="none", labels="a,b", beams=0, top_p=2)
    assert caught.value.faults == (
        "--beams must be at least 1; got 0",
        "--top-p must be at most 1; got 2",
        "--labels goes with --task zero-shot, not with generate",
    )
    with pytest.raises(ConfigError, match=r"option 'beems' is unknown.*Did you mean 'beams'"):
        infer("translate", SENTENCES, model="none", beems=2)
    with pytest.raises(ConfigError, match="--context goes with --task question, not with ner"):
        infer("ner", SENTENCES, model="none", context="x")


def test_results_come_while_texts_are_still_being_read(models):
    """A stream without end is answered as it goes."""

    def endless():
        row = 0
        while True:
            row += 1
            assert row < 200
            yield item_of(SENTENCES[row % 5], row)

    task = task_named("sentiment")
    found = results(task, endless(), options_of(task, {}), model=str(models["sentiment"]), precision="float32")
    assert next(found)["text"] == SENTENCES[1]


def test_the_same_from_arguments_standard_input_and_files(models, tmp_path):
    own = ("--task", "sentiment", "--model", models["sentiment"], "--precision", "float32")
    code, expected, err = call(*own, *SENTENCES)
    assert (code, err) == (0, "")
    assert [one["text"] for one in expected] == list(SENTENCES)
    lines = "\r\n".join(SENTENCES[:2]) + "\n\n  \n" + "\n".join(SENTENCES[2:])
    assert call(*own, "-", stdin=lines) == (0, expected, "")
    (tmp_path / "texts.txt").write_text(lines)
    assert call(*own, "--file", tmp_path / "texts.txt") == (0, expected, "")
    frame = pd.DataFrame({"text": SENTENCES, "other": 1})
    frame.to_csv(tmp_path / "texts.csv", index=False)
    frame.rename(columns={"text": "body"}).to_parquet(tmp_path / "texts.parquet")
    assert call(*own, "--file", tmp_path / "texts.csv", "--quiet") == (0, expected, "")
    assert call(*own, "--file", tmp_path / "texts.parquet", "--text", "body", "-q") == (0, expected, "")
    code, found, err = call(*own, "--file", tmp_path / "texts.csv", "--text", "bodi")
    assert (code, found) == (2, [])
    assert "no column 'bodi'" in err


def test_questions_of_a_table_have_their_contexts_beside_them(models, tmp_path):
    own = ("--task", "question", "--model", models["question"])
    pd.DataFrame({"text": SENTENCES[:2], "context": ["a good film", "a cold hotel"]}).to_csv(tmp_path / "q.csv")
    code, found, _ = call(*own, "--file", tmp_path / "q.csv")
    assert code == 0
    assert found[0]["answer"] in "a good film"
    assert found[1]["answer"] in "a cold hotel"
    code, found, _ = call(*own, "--file", tmp_path / "q.csv", "--context", "the music")
    assert {one["answer"] for one in found} <= {"the", "music", "the music"}
    pd.DataFrame({"text": SENTENCES[:2]}).to_csv(tmp_path / "q.csv")
    code, _, err = call(*own, "--file", tmp_path / "q.csv")
    assert code == 2
    assert "no column 'context' (for questions)" in err


def test_texts_that_were_cut_are_counted_on_stderr(models):
    own = ("--task", "sentiment", "--model", models["sentiment"])
    code, found, err = call(*own, LONG, *SENTENCES, LONG)
    assert (code, [("cut_tokens" in one) for one in found]) == (0, [True, *[False] * 5, True])
    assert "2 texts are longer than the model reads" in err
    assert call(*own, LONG, "--quiet")[2] == ""


def test_a_registered_model_is_asked_of_the_registry(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs headstart[mlflow]")
    monkeypatch.chdir(tmp_path)
    code, found, err = call("--task", "sentiment", "--model", "models:/reviews@champion", "a film")
    assert (code, found) == (2, [])
    assert "reviews" in err
    assert "hub" not in err


def test_wrong_command_lines(models, tmp_path):
    own = ("--task", "sentiment", "--model", models["sentiment"])
    assert "exactly one" in call(*own)[2]
    assert "exactly one" in call(*own, "a", "--file", "x.txt")[2]
    assert "give it alone" in call(*own, "a", "-")[2]
    assert "does not exist" in call(*own, "--file", tmp_path / "x.txt")[2]
    assert "--task" in call("--model", "x", "text")[2]
    assert call(*own, "--beams", "2", "text") == (2, [], "error: --beams goes with --task generate and summarize and "
                                                  "translate, not with sentiment\n")  # fmt: skip


def test_every_option_is_a_flag_that_help_explains():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run(["infer", "--help"]) == 0
    flags = set(re.findall(r"--[a-z-]+", out.getvalue()))
    wanted = {"--to" if n == "to_language" else "--from" if n == "from_language" else f"--{n.replace('_', '-')}"
              for n in option_names()}  # fmt: skip
    assert wanted <= flags


def test_commands_of_the_page_run(models, tmp_path, monkeypatch):
    """Each with a tiny model of the right class in the place where the hub's client would have put the large one."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": SENTENCES}).to_csv("new.csv")
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    asked = set()
    for words in commands:
        task, name = (words[words.index(flag) + 1] for flag in ("--task", "--model"))
        put_model(task, name, models, tmp_path)
        code, found, err = call(*words[2:])
        assert code == 0, f"{shlex.join(words)}: {err}"
        assert found
        asked.add(task)
    assert asked == set(TASKS) - {"features"}  # which is run as it stands


def put_model(task, name, models, tmp_path):
    from test_generation import multilingual

    hub = {"xlm-r": "FacebookAI/xlm-roberta-base"}.get(name, name)
    folder = tmp_path / "hub" / f"models--{hub.replace('/', '--')}" / "snapshots" / ("a" * 40)
    if name.startswith("./"):
        if not Path(name).exists():
            multilingual(Path(name), "Nllb")
    elif not folder.exists():
        shutil.copytree(models[task], folder)
        (folder.parents[1] / "refs").mkdir()
        (folder.parents[1] / "refs" / "main").write_text("a" * 40)
        if "t5" in name:
            shutil.rmtree(folder)
            pairs = {"translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 6}}
            save_model("T5ForConditionalGeneration", folder, task_specific_params=pairs)


def test_an_encoder_without_a_head_still_gives_features(tmp_path):
    folder = make_checkpoint("roberta", tmp_path)
    assert len(infer("features", "a film", model=str(folder))[0]["features"]) == 32
