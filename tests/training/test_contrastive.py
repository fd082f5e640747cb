"""Training on pairs: the loss, one encoding per text, what is trained and what is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import fit_strategy, tiny_task
from headstart.errors import HeadstartError
from headstart.models import batching
from headstart.models import folder as model_folder
from headstart.models.inspecting import find, tensors
from headstart.models.loading import load_body
from headstart.models.runtime import Runtime
from headstart.strategies.features import extractor_of
from headstart.training import contrastive
from headstart.training.contrastive import PairTrainingConfig, encode, pair_loss, train_on_pairs
from headstart.training.pairs import Pairs


def drawn(rows: Any, y: Any) -> Pairs:
    first, second = np.triu_indices(len(rows), k=1)
    return Pairs(np.asarray(rows), first, second, np.asarray(y)[first] == np.asarray(y)[second])


def test_loss_equals_that_of_sentence_transformers() -> None:
    """Its CosineSimilarityLoss is the mean squared error between the cosine of two embeddings and the label."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.normal(size=(6, 5)).astype(np.float32))
    pairs = drawn(range(6), [0, 0, 1, 1, 2, 0])
    reference = losses.CosineSimilarityLoss(model=None)
    embeddings = [features[pairs.first], features[pairs.second]]
    expected = reference.compute_loss_from_embeddings(embeddings, torch.tensor(pairs.same, dtype=torch.float32))
    assert float(pair_loss(features, pairs)) == pytest.approx(float(expected), abs=1e-6)


def test_encoding_in_pieces_is_that_of_the_extractor(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny_task(encoder=tiny_encoder)
    extractor = extractor_of(task)
    tokens = batching.tokenize(extractor.tokenizer, task.train, task.text)
    rows = np.asarray([5, 0, 17, 3, 9])
    expected = extractor(task.train)[rows]
    for budget in (1, 25, 1 << 20):
        monkeypatch.setattr(contrastive, "_STEP_TOKENS", budget)
        found = encode(extractor, tokens, rows).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_text_of_a_step_is_encoded_once(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    extractor = extractor_of(task)
    tokens = batching.tokenize(extractor.tokenizer, task.train, task.text)
    encoded: list[int] = []
    plain = extractor.answers
    extractor.answers = lambda batch: encoded.append(len(batch["input_ids"])) or plain(batch)  # type: ignore[func-returns-value,method-assign]
    told: list[int] = []
    config = PairTrainingConfig(steps=3, texts=8, pairs=1000)
    epochs = train_on_pairs(extractor, tokens, task.train.y, config, seed=0, advance=told.append)
    assert sum(encoded) == sum(told) == 3 * 8
    assert len(epochs) == 1  # 24 of the 48 texts


def test_training_brings_classes_apart(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    fitted = fit_strategy("contrastive", task)
    before, after = extractor_of(task)(task.validation), fitted.classifier.extractor(task.validation)

    def gap(features: np.ndarray) -> float:
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosines = unit @ unit.T
        same = task.validation.y[:, None] == task.validation.y[None, :]
        return float(cosines[same].mean() - cosines[~same].mean())

    assert gap(after) > gap(before) + 0.2
    assert fitted.epochs[-1]["train_loss"] < fitted.epochs[0]["train_loss"]


def test_refit_trains_on_both_parts_and_is_judged_by_the_first(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    both = replace(task, train=task.train.concat(task.validation))
    plain, refit = (fit_strategy("contrastive", task, refit=on) for on in (False, True))
    strength = refit.notes["strength"]
    assert strength == plain.notes["strength"]
    np.testing.assert_array_equal(refit.validation, plain.validation)
    expected = fit_strategy("contrastive", both, refit=False, strengths=(strength,)).classifier
    proba = refit.classifier.predict_proba(task.validation)
    np.testing.assert_array_equal(proba, expected.predict_proba(task.validation))
    assert not np.array_equal(proba, plain.classifier.predict_proba(task.validation))


def test_the_tuned_encoder_is_saved_and_the_cached_features_are_not_those_of_the_plain_one(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path / "cache")
    fit_strategy("linear-probe", task)
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    fitted = fit_strategy("contrastive", task)
    assert sorted((tmp_path / "cache").rglob("*.npy")) == kept
    card = {"strategy": "contrastive", "trained": list(fitted.trained)}
    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.train, card=card)
    assert json.loads((tmp_path / "m" / "headstart.json").read_text())["kind"] == "frozen"
    plain, tuned = (dict(load_body(folder).named_parameters()) for folder in (tiny_encoder, tmp_path / "m"))
    moved = {name for name, tensor in tuned.items() if not torch.equal(tensor, plain[name])}
    assert moved <= set(fitted.trained) == {name for name in plain if "pooler" not in name}
    assert any("layer.0" in name for name in moved)
    stored = {t.name: t.trained for t in tensors(find(str(tmp_path / "m")))}
    assert stored["head.weights"]
    assert stored["encoder.layer.0.output.dense.weight"]
    assert not stored["pooler.dense.weight"]
    again = model_folder.load(tmp_path / "m", runtime=Runtime()).predict_proba(list(task.validation.texts))
    np.testing.assert_allclose(again, fitted.classifier.predict_proba(task.validation), atol=1e-6)


def test_sentence_transformers_opens_the_folder_and_gives_the_same_features(tiny_encoder: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    task = tiny_task(encoder=tiny_encoder)
    fitted = fit_strategy("contrastive", task, steps=5)
    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": "c"})
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(list(task.validation.texts))
    np.testing.assert_allclose(theirs, fitted.classifier.extractor(task.validation), atol=1e-6)


def test_divergence_is_said(tiny_encoder: Path) -> None:
    with pytest.raises(HeadstartError, match="diverged in step"):
        fit_strategy("contrastive", tiny_task(encoder=tiny_encoder), learning_rate=1e30, warmup=0.0)


def test_without_dropout_the_states_of_a_step_repeat(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    losses = [
        fit_strategy("contrastive", task, dropout=on, learning_rate=1e-30).epochs[0]["train_loss"]
        for on in (False, False, True)
    ]
    assert losses[0] == losses[1] != losses[2]
