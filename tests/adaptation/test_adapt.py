"""Adaptation from end to end: loss as transformers has it, folders that anyone loads, the same run after a kill."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from conftest import (
    ARCHITECTURES,
    fit_strategy,
    make_checkpoint,
    make_tokenizer,
    products,
    separable_texts,
    tiny_task,
)
from headstart.adaptation.adapt import CARD, adapt_encoder, hold_out, state_folder
from headstart.adaptation.config import AdaptConfig
from headstart.adaptation.corpus import Corpus, read_rows
from headstart.adaptation.language_model import LanguageModel, load_language_model
from headstart.adaptation.loop import Adaptation
from headstart.adaptation.state import StateStore, uninterrupted
from headstart.errors import ConfigError, DataError, ModelError
from headstart.models import folder as model_folder
from headstart.models.encoders import Encoder
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime
from headstart.training.dropout import ByteDropout
from headstart.training.loop import checkpointed

TEXTS = separable_texts(120, words=10)[0]
QUICK = {"learning_rate": 3e-3, "epochs": 2, "batch_tokens": 256, "held_out": 0.2, "rows": "texts"}
every_architecture = pytest.mark.parametrize("architecture", list(ARCHITECTURES))


def adapted(folder: Path, out: Path, texts: list[str] = TEXTS, **settings: Any) -> Any:
    config = AdaptConfig(**{**QUICK, **settings})
    return adapt_encoder(Encoder("tiny", folder), texts, out, config, runtime=Runtime(), threads=1)


def small(folder: Path, count: int) -> tuple[LanguageModel, Corpus]:
    """Return an encoder's language model and some texts, a row each."""
    lm = load_language_model(Encoder("tiny", folder), seed=0)
    return lm, read_rows(lm.tokenizer, TEXTS[:count], max_length=32, rows="texts")


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of all gradients: some lie in memory that the next step uses again."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: (grad.to_dense() if grad.is_sparse else grad).clone() for name, grad in found.items()}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(str(folder / "model.safetensors"))


@every_architecture
def test_head_is_computed_where_needed_and_equals_the_whole(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    """The reference is the loss that the architecture's own forward gives for labels of -100 elsewhere."""
    lm, corpus = small(checkpoint(architecture), 9)
    running = Adaptation(lm, corpus, corpus, AdaptConfig(), runtime=Runtime(), seed=0)
    lm.model.eval()
    rows = np.arange(9)
    batch, at, wanted = running.batch(corpus, rows, 1)
    computed: list[int] = []
    output = lm.model.get_output_embeddings()
    hook = output.register_forward_pre_hook(lambda _module, given: computed.append(given[0].shape[-2]))
    loss, count = running._loss(corpus, rows, 1)
    hook.remove()
    assert computed in ([], [len(wanted)])  # none where the product is made outside the module
    labels = torch.full(batch["input_ids"].shape, -100)
    labels.view(-1)[at] = wanted
    theirs = lm.model(**batch, labels=labels).loss
    assert count == len(wanted) > 0
    torch.testing.assert_close(loss / count, theirs, atol=1e-5, rtol=1e-5)


@every_architecture
@pytest.mark.parametrize("embeddings", [True, False])
def test_gradients_are_those_of_the_whole(
    architecture: str, embeddings: bool, checkpoint: Callable[[str], Path]
) -> None:
    """The reference is torch's cross-entropy of all logits; two steps, so that memory used again is seen."""
    lm, corpus = small(checkpoint(architecture), 16)
    running = Adaptation(lm, corpus, corpus, AdaptConfig(), runtime=Runtime(), seed=0)
    lm.train_body(embeddings=embeddings, top_layers=None)
    lm.model.eval()
    for rows in (np.arange(9), np.arange(9, 16)):
        batch, at, wanted = running.batch(corpus, rows, 1)
        found = []
        for labels in (None, torch.full(batch["input_ids"].shape, -100)):
            lm.model.zero_grad()
            if labels is None:
                loss = lm.loss(batch, at, wanted) / len(wanted)
            else:
                labels.view(-1)[at] = wanted
                loss = lm.model(**batch, labels=labels).loss
            loss.backward()
            found.append(gradients_of(lm.model))
        assert found[0].keys() == found[1].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4, msg=name)


@every_architecture
def test_in_bfloat16_loss_and_gradients_are_those_of_float32_but_for_rounding(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    lm, corpus = small(checkpoint(architecture), 32)
    lm.model.eval()
    found = []
    for precision in ("float32", "bfloat16", "bfloat16"):
        running = Adaptation(lm, corpus, corpus, AdaptConfig(), runtime=Runtime("cpu", precision), seed=0)
        lm.model.zero_grad()
        loss, count = running._loss(corpus, np.arange(32), 0)  # held-out rows have the masks of epoch 0
        (loss / count).backward()
        dense = [gradient.flatten() for gradient in gradients_of(lm.model).values()]
        assert running.held_out_loss() == pytest.approx(float(loss.detach()) / count, rel=0.01)
        found.append((float(loss.detach()) / count, torch.cat(dense)))
    (loss, exact), (low_loss, low), (_, again) = found
    assert low_loss == pytest.approx(loss, rel=5e-3)
    assert torch.cosine_similarity(low, exact, dim=0) > 0.995
    assert float(low.norm() / exact.norm()) == pytest.approx(1, abs=0.03)
    assert torch.equal(low, again)


@every_architecture
def test_checkpointing_computes_layers_again_and_changes_no_gradient(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    lm, corpus = small(checkpoint(architecture), 9)
    if not lm.model.supports_gradient_checkpointing:
        refused = Adaptation(lm, corpus, corpus, AdaptConfig(checkpointing=True), runtime=Runtime(), seed=0)
        with pytest.raises(ConfigError, match="lower batch_tokens instead"):
            refused.run()
        return
    found = []
    for wanted in (False, True):
        config = AdaptConfig(checkpointing=wanted)
        running = Adaptation(lm, corpus, corpus, config, runtime=Runtime(), seed=0)
        lm.train_body(embeddings=True, top_layers=None)
        lm.model.zero_grad()
        torch.manual_seed(0)
        with products() as calls, checkpointed(lm.model, wanted, instead=""):
            lm.model.train()
            for module in lm.model.modules():
                if isinstance(module, torch.nn.Dropout | ByteDropout):
                    module.eval()
            loss, count = running._loss(corpus, np.arange(9), 1)
            (loss / count).backward()
        found.append((gradients_of(lm.model), len(calls)))
    (plain, once), (again, twice) = found
    assert twice > once > 0, "no layer was computed again"
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, again[name], atol=1e-6, rtol=1e-4, msg=name)


def test_an_adaptation_with_checkpointing_repeats_bit_for_bit(tiny_encoder: Path, tmp_path: Path) -> None:
    one, other = (adapted(tiny_encoder, tmp_path / name, checkpointing=True) for name in ("one", "other"))
    assert one.card["epochs"] == other.card["epochs"]
    weights = weights_of(tmp_path / "other")
    for name, tensor in weights_of(tmp_path / "one").items():
        assert torch.equal(tensor, weights[name])


@every_architecture
def test_fresh_head_is_tied_and_folder_loads_everywhere(
    architecture: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    start = checkpoint(architecture)
    lm = load_language_model(Encoder("tiny", start), seed=0)
    assert lm.fresh
    assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    done = adapted(start, tmp_path / "out", epochs=1)
    assert done.card["fresh_head"]
    body, info = AutoModel.from_pretrained(str(tmp_path / "out"), output_loading_info=True)
    assert not [name for name in info["missing_keys"] if "pooler" not in name]
    before = AutoModel.from_pretrained(str(start)).state_dict()
    after = body.state_dict()
    moved = [n for n in after if "pooler" not in n and not torch.equal(after[n], before[n])]
    assert moved or done.card["best_epoch"] == 0
    if architecture != "xlnet":  # it has no masked-LM class
        again, info = AutoModelForMaskedLM.from_pretrained(str(tmp_path / "out"), output_loading_info=True)
        assert not info["missing_keys"]
        assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", CARD} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert "headstart" not in (tmp_path / "out" / "config.json").read_text(), "how attention is computed is not stored"


@every_architecture
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_classifier_trained_after_adaptation_reloads_with_the_same_logits(
    architecture: str, strategy: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    done = adapted(checkpoint(architecture), tmp_path / "encoder", epochs=2, head_epochs=0, learning_rate=1e-3)
    assert done.card["best_epoch"] > 0, "adapted, so that no other weights pass for these"
    task = tiny_task(n=16, n_validation=8, encoder=tmp_path / "encoder")
    fitted = fit_strategy(strategy, task, epochs=1)
    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": strategy})
    again = model_folder.load(tmp_path / "m", runtime=Runtime()).classifier
    assert isinstance(again, NetworkClassifier)
    one, other = fitted.classifier.model.state_dict(), again.model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    tokens = fitted.classifier.tokenize(task.validation)
    # Adapters are merged into weights that lie elsewhere in memory, on which the order of sums may depend.
    room = 1e-6 if strategy == "lora" else 0.0
    np.testing.assert_allclose(again.logits(tokens), fitted.classifier.logits(tokens), rtol=0, atol=room)


def test_a_head_and_a_pooler_that_are_there_are_kept(tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    start = make_checkpoint("bert", tmp_path / "start")
    model = BertForMaskedLM.from_pretrained(str(start))
    pooler = {"bert.pooler.dense.weight": torch.randn(32, 32), "bert.pooler.dense.bias": torch.randn(32)}
    model.save_pretrained(str(start), state_dict={**model.state_dict(), **pooler})
    lm = load_language_model(Encoder("tiny", start), seed=5)
    assert not lm.fresh
    assert torch.equal(lm.model.cls.predictions.transform.dense.weight, model.cls.predictions.transform.dense.weight)
    done = adapted(start, tmp_path / "out", epochs=1)
    assert {e["phase"] for e in done.card["epochs"]} == {"all"}
    stored = weights_of(tmp_path / "out")
    assert all(torch.equal(stored[name], tensor) for name, tensor in pooler.items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["attention_probs_dropout_prob"] == 0.1, "the value trained with is not the one stored"


def test_loss_falls_and_the_best_epoch_is_kept(tiny_encoder: Path, tmp_path: Path) -> None:
    done = adapted(tiny_encoder, tmp_path / "out", epochs=6, patience=6, learning_rate=1e-2)
    losses = {e["epoch"]: e["held_out_loss"] for e in done.card["epochs"] if e["phase"] == "all"}
    best = done.card["best_epoch"]
    assert losses[best] == min(losses.values()) < losses[0] - 0.05
    assert all(e["perplexity"] == pytest.approx(np.exp(e["held_out_loss"])) for e in done.card["epochs"])
    lm = load_language_model(done.encoder, seed=0)
    train, held = (read_rows(lm.tokenizer, part, max_length=64, rows="texts") for part in hold_out(TEXTS, 0.2, 0))
    scorer = Adaptation(lm, train, held, AdaptConfig(**QUICK), runtime=Runtime(), seed=0)
    assert scorer.held_out_loss() == pytest.approx(losses[best], abs=1e-5)


def test_a_loss_that_only_rises_leaves_the_encoder_as_it_was(tiny_encoder: Path, tmp_path: Path) -> None:
    done = adapted(tiny_encoder, tmp_path / "out", learning_rate=1.0, warmup=0.0, head_epochs=1, epochs=3)
    assert done.card["best_epoch"] == 0
    assert [e["phase"] for e in done.card["epochs"]][:1] == ["head"], "which moves no weight of the encoder"
    assert [e["epoch"] for e in done.card["epochs"] if e["phase"] == "all"] == [0, 1]  # patience ends it
    before, after = AutoModel.from_pretrained(str(tiny_encoder)), AutoModel.from_pretrained(str(tmp_path / "out"))
    for name, tensor in before.state_dict().items():
        assert "pooler" in name or torch.equal(tensor, after.state_dict()[name])


def test_warm_up_moves_the_head_alone_and_depth_is_as_set(tiny_encoder: Path) -> None:
    lm = load_language_model(Encoder("tiny", tiny_encoder), seed=0)
    lm.train_only_head()
    names = {n for n, p in lm.model.named_parameters() if p.requires_grad}
    assert names == lm.fresh
    lm.train_body(embeddings=False, top_layers=1)
    names = {n for n, p in lm.model.named_parameters() if p.requires_grad}
    assert {n.split(".layer.")[1][0] for n in names if ".layer." in n} == {"1"}
    assert not [n for n in names if "embeddings" in n]
    assert lm.fresh <= names
    with pytest.raises(ModelError, match="2 layers"):
        lm.train_body(embeddings=True, top_layers=3)


def interrupted(folder: Path, out: Path, after: int, **settings: Any) -> None:
    """Adapt until so many rows were done, then stop as a kill would, with a state kept at every second step."""
    from headstart.adaptation import adapt as module

    class Often(StateStore):
        calls = 0

        def is_due(self) -> bool:
            self.calls += 1
            return self.calls % 2 == 0

    class KilledError(BaseException):
        pass

    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= after:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "StateStore", Often)
        config = AdaptConfig(**{**QUICK, **settings})
        with pytest.raises(KilledError):
            adapt_encoder(Encoder("tiny", folder), TEXTS, out, config, runtime=Runtime(), threads=1, advance=advance)


def test_an_interruption_waits_for_the_end_of_a_step() -> None:
    done = []

    def step() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the step")
        done.append("what comes after")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["the rest of the step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends a process without telling it")
def test_a_command_told_to_end_keeps_its_last_step(tiny_encoder: Path, tmp_path: Path) -> None:
    """What batch systems send is as Ctrl-C: no state was due yet, and one is there all the same."""
    (tmp_path / "pool.csv").write_text("text\n" + "\n".join(TEXTS))
    words = ["adapt", str(tmp_path / "pool.csv"), "--encoder", str(tiny_encoder), "--out", str(tmp_path / "out")]
    words += ["--set", "adapt.epochs=100000", "--set", "adapt.patience=100000", "--precision", "float32"]
    command = [sys.executable, "-c", "from headstart.cli.main import main; main()", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            seen = [next(line for line in process.stderr if "epoch" in line)]
            process.send_signal(signal.SIGTERM)
            seen += list(process.stderr)
            process.wait(60)
        finally:
            process.kill()
    assert process.returncode == 130, "".join(seen)
    assert "the same command again goes on where it stopped" in seen[-1]
    assert (state_folder(tmp_path / "out") / "state.safetensors").is_file()


@pytest.mark.parametrize("after", [60, 130, 290])
def test_a_killed_run_goes_on_to_the_same_bits(after: int, tiny_encoder: Path, tmp_path: Path) -> None:
    """96 rows an epoch: the kills are in the head's epoch and in each of the next ones."""
    settings = {"epochs": 3, "patience": 3}
    whole = adapted(tiny_encoder, tmp_path / "whole", **settings)
    interrupted(tiny_encoder, tmp_path / "killed", after, **settings)
    assert state_folder(tmp_path / "killed").is_dir()
    assert not (tmp_path / "killed").exists()
    again = adapted(tiny_encoder, tmp_path / "killed", **settings)
    assert again.card["curve"] == whole.card["curve"]
    assert again.card["epochs"] == whole.card["epochs"]
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not state_folder(tmp_path / "killed").exists()


@pytest.mark.parametrize("after", [60, 150])
def test_a_killed_run_still_knows_the_best_weights(after: int, tiny_encoder: Path, tmp_path: Path) -> None:
    """At a rate that only hurts, the start is the best: a run killed in its first or second epoch must find it."""
    settings = {"learning_rate": 1.0, "warmup": 0.0, "head_epochs": 0, "epochs": 3, "patience": 2}
    interrupted(tiny_encoder, tmp_path / "killed", after, **settings)
    again = adapted(tiny_encoder, tmp_path / "killed", **settings)
    assert again.card["best_epoch"] == 0
    before, after_ = weights_of(tiny_encoder), weights_of(tmp_path / "killed")
    assert all(torch.equal(after_[f"bert.{name}"], tensor) for name, tensor in before.items())


def test_a_state_without_its_best_weights_is_not_gone_on_from(tiny_encoder: Path, tmp_path: Path) -> None:
    whole = adapted(tiny_encoder, tmp_path / "whole")
    interrupted(tiny_encoder, tmp_path / "killed", 150)
    (best,) = state_folder(tmp_path / "killed").glob("best-*.safetensors")
    best.write_bytes(best.read_bytes()[:-8])
    rows: list[int] = []
    again = adapt_encoder(
        Encoder("tiny", tiny_encoder), TEXTS, tmp_path / "killed", AdaptConfig(**QUICK), runtime=Runtime(), threads=1,
        advance=rows.append,
    )  # fmt: skip
    assert sum(rows) == 3 * 96  # from the start
    assert again.card["curve"] == whole.card["curve"]


def test_ctrl_c_keeps_the_very_step(tiny_encoder: Path, tmp_path: Path) -> None:
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= 150:
            raise KeyboardInterrupt

    config = AdaptConfig(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        adapt_encoder(
            Encoder("tiny", tiny_encoder), TEXTS, tmp_path / "out", config, runtime=Runtime(), threads=1,
            advance=advance,
        )  # fmt: skip
    left: list[int] = []
    adapt_encoder(
        Encoder("tiny", tiny_encoder), TEXTS, tmp_path / "out", config, runtime=Runtime(), threads=1,
        advance=left.append,
    )  # fmt: skip
    assert sum(left) + done == 3 * 96  # the head's epoch and two more: no row is done twice


def test_ctrl_c_while_held_out_rows_are_scored_loses_no_step(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, config = Encoder("tiny", tiny_encoder), AdaptConfig(**QUICK)
    scored = Adaptation.held_out_loss
    calls = 0

    def stopped(running: Adaptation) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:  # after the first epoch of all layers; the head's comes before
            raise KeyboardInterrupt
        return scored(running)

    monkeypatch.setattr(Adaptation, "held_out_loss", stopped)
    done: list[int] = []
    left: list[int] = []
    for told, error in ((done, KeyboardInterrupt), (left, None)):
        with pytest.raises(error) if error else contextlib.nullcontext():
            adapt_encoder(encoder, TEXTS, tmp_path / "out", config, runtime=Runtime(), threads=1, advance=told.append)
    assert sum(done) + sum(left) == 3 * 96
    whole = adapted(tiny_encoder, tmp_path / "whole")
    assert json.loads((tmp_path / "out" / CARD).read_text())["curve"] == whole.card["curve"]


def test_a_second_process_waits_and_takes_what_the_first_has_made(tiny_encoder: Path, tmp_path: Path) -> None:
    """Here the other is a second call inside the first one's last epoch, in a thread."""
    second: list[Any] = []

    def late() -> None:
        second.append(adapted(tiny_encoder, tmp_path / "out"))

    other = threading.Thread(target=late)

    def on_epoch(figures: dict[str, Any]) -> None:
        if figures["phase"] == "all" and figures["epoch"] == 1:
            other.start()
            time.sleep(1)  # time to come as far as the lock

    first = adapt_encoder(
        Encoder("tiny", tiny_encoder), TEXTS, tmp_path / "out", AdaptConfig(**QUICK), runtime=Runtime(), threads=1,
        on_epoch=on_epoch,
    )  # fmt: skip
    other.join()
    assert (first.cached, second[0].cached) == (False, True)
    assert second[0].card == first.card
    assert not state_folder(tmp_path / "out").exists()


def test_a_state_of_other_settings_is_not_gone_on_from(tiny_encoder: Path, tmp_path: Path) -> None:
    interrupted(tiny_encoder, tmp_path / "out", 130)
    fresh = adapted(tiny_encoder, tmp_path / "plain", mask_share=0.3)
    other = adapted(tiny_encoder, tmp_path / "out", mask_share=0.3)
    assert other.card["curve"] == fresh.card["curve"]


def test_a_finished_folder_is_taken_as_it_is(tiny_encoder: Path, tmp_path: Path) -> None:
    first = adapted(tiny_encoder, tmp_path / "out", epochs=1)
    again = adapted(tiny_encoder, tmp_path / "out", epochs=1)
    assert (first.cached, again.cached) == (False, True)
    assert again.card == first.card
    other = adapted(tiny_encoder, tmp_path / "out", TEXTS[1:], epochs=1)
    assert not other.cached


def test_same_seed_same_bits_other_seed_others(tiny_encoder: Path, tmp_path: Path) -> None:
    config = AdaptConfig(**QUICK)
    curves = []
    for place, seed in enumerate((0, 0, 1)):
        before = torch.random.get_rng_state()
        done = adapt_encoder(
            Encoder("tiny", tiny_encoder), TEXTS, tmp_path / str(place), config, runtime=Runtime(), threads=1, seed=seed
        )
        assert torch.equal(before, torch.random.get_rng_state())
        curves.append(done.card["curve"])
    assert curves[0] == curves[1] != curves[2]


def test_a_fresh_head_is_tied_where_the_configuration_unties_it(tmp_path: Path) -> None:
    start = make_checkpoint("bert", tmp_path / "start", tie_word_embeddings=False)
    lm = load_language_model(Encoder("tiny", start), seed=0)
    assert lm.fresh
    assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    adapted(start, tmp_path / "out", epochs=1)
    again = AutoModelForMaskedLM.from_pretrained(str(tmp_path / "out"))
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_decoder_only_encoders_predict_the_next_token(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    tokenizer = make_tokenizer(segments=False)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0,
        bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(3)
    GPT2Model(config).save_pretrained(str(tmp_path / "start"))
    tokenizer.save_pretrained(str(tmp_path / "start"))
    encoder = Encoder("tiny", tmp_path / "start")
    lm = load_language_model(encoder, seed=0)
    assert lm.causal
    corpus = read_rows(lm.tokenizer, TEXTS[:5], max_length=32, rows="texts")
    running = Adaptation(lm, corpus, corpus, AdaptConfig(), runtime=Runtime(), seed=0)
    lm.model.eval()
    batch, _, wanted = running.batch(corpus, np.arange(5), 1)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss, count = running._loss(corpus, np.arange(5), 1)
    assert count == len(wanted) == int(corpus.tokens.lengths.sum()) - 5
    torch.testing.assert_close(loss / count, lm.model(**batch, labels=labels).loss, atol=1e-5, rtol=1e-5)
    done = adapted(tmp_path / "start", tmp_path / "out")
    assert done.card["objective"] == "next token"
    assert done.card["epochs"][-1]["held_out_loss"] < done.card["epochs"][0]["held_out_loss"]
    AutoModel.from_pretrained(str(tmp_path / "out"))


def test_the_head_alone_is_scored_on_the_held_out_texts_too(tiny_encoder: Path, tmp_path: Path) -> None:
    done = adapted(tiny_encoder, tmp_path / "out", head_epochs=3, epochs=1)
    head = [e["held_out_loss"] for e in done.card["epochs"] if e["phase"] == "head"]
    assert len(head) == 3
    assert head[2] < head[0]
    start = next(e for e in done.card["epochs"] if e["phase"] == "all" and e["epoch"] == 0)
    assert start["held_out_loss"] == head[2]


def test_held_out_texts_without_a_known_word_are_exchanged(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = TEXTS[:20]
    _train, (alone,) = hold_out(texts, 0.05, 0)
    odd = ["qqq zzz" if text == alone else text for text in texts]
    assert hold_out(odd, 0.05, 0)[1] == ["qqq zzz"]
    done = adapted(tiny_encoder, tmp_path / "out", odd, held_out=0.05, epochs=1)
    assert (done.card["rows"], done.card["rows_held_out"]) == (len(texts) - 1, 1)


def test_copies_of_a_text_are_on_one_side() -> None:
    texts = [*TEXTS, *(f" {text}\n" for text in TEXTS), *TEXTS[:50]]
    train, held = hold_out(texts, 0.2, 0)
    assert len(train) + len(held) == len(texts)
    assert not {text.strip() for text in train} & {text.strip() for text in held}
    assert len({text.strip() for text in held}) == round(0.2 * len(set(TEXTS)))
    with pytest.raises(DataError, match="at least 2 different texts are needed to adapt to; got 1"):
        hold_out(["one", "one ", "one"], 0.2, 0)


def test_what_cannot_be_adapted_is_said(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2"):
        adapted(tiny_encoder, tmp_path / "out", ["one"])
    with pytest.raises(DataError, match="at least 2 different"):
        adapted(tiny_encoder, tmp_path / "out", ["", "  ", "\n"])
    with pytest.raises(DataError, match="fewer than 2 of the texts"):
        adapted(tiny_encoder, tmp_path / "out", ["qqq zzz", "xyzzy", "plugh"])  # unknown, so never masked
    with pytest.raises(ModelError, match="64 tokens"):
        adapted(tiny_encoder, tmp_path / "out", max_length=65)
    start = make_checkpoint("bert", tmp_path / "maskless")
    tokenizer = make_tokenizer()
    tokenizer.mask_token = None
    tokenizer.save_pretrained(str(start))
    with pytest.raises(ModelError, match="no mask token"):
        adapted(start, tmp_path / "out")
