"""What is frozen is computed once: training from stored states is training the whole network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.data.examples import Examples
from headstart.models import cache
from headstart.models.loading import layer_list, load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.prefix import Prefix, frozen_depth
from headstart.models.runtime import Runtime
from headstart.models.store import content_keys
from headstart.strategies.features import extractor_of
from headstart.training import frozen

STACKED = ["bert", "distilbert", "roberta", "xlm-roberta"]


def network(encoder: Path, *, trained_layers: int = 1) -> NetworkClassifier:
    task = tiny_task(encoder=encoder)
    model, _ = load_classifier(encoder, task.labels, seed=1)
    prefix, layers = layer_list(model)
    frozen_names = tuple(f"{prefix}.{i}." for i in range(len(layers) - trained_layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (name.startswith(frozen_names) or ".embeddings." in name))
    return NetworkClassifier(model, load_tokenizer(encoder), task.labels, task.text, task.runtime)


def prefix_of(classifier: NetworkClassifier, folder: Path | None = None) -> Prefix:
    return Prefix(classifier, frozen_depth(classifier.model), key="weights", cache=folder)


@pytest.fixture
def layer_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the texts that pass through the lowest layer of any BERT."""
    from transformers.models.bert.modeling_bert import BertEmbeddings

    calls: list[int] = []
    forward = BertEmbeddings.forward

    def counted(self: Any, input_ids: Any = None, **named: Any) -> Any:
        calls.append(len(input_ids))
        return forward(self, input_ids=input_ids, **named)

    monkeypatch.setattr(BertEmbeddings, "forward", counted)
    return calls


# --- cutting a network


@pytest.mark.parametrize("architecture", STACKED)
@pytest.mark.parametrize("pairs", [False, True])
def test_the_rest_of_a_network_answers_as_the_whole(
    architecture: str, pairs: bool, checkpoint: Callable[[str], Path]
) -> None:
    classifier = network(checkpoint(architecture))
    examples = tiny_task(n=20, pairs=pairs).train
    prefix = prefix_of(classifier)
    assert prefix.depth == 1
    tokens, keys = classifier.tokenize(examples), content_keys(examples)
    whole = classifier.logits(tokens)
    given = prefix.with_states(tokens, keys)
    names = [name for name, _ in classifier.model.named_parameters()]
    with prefix.left_out():
        np.testing.assert_allclose(classifier.logits(given), whole, atol=2e-3)
        left = [name for name, _ in classifier.model.named_parameters()]
    assert [n for n in names if n in left] == left
    assert 0 < len(left) < len(names)
    assert [name for name, _ in classifier.model.named_parameters()] == names
    np.testing.assert_array_equal(classifier.logits(tokens), whole)
    assert prefix.holds(tokens, keys)


def test_states_are_those_that_the_layer_is_given(tiny_encoder: Path) -> None:
    """Against transformers' own ``output_hidden_states``."""
    classifier, examples = network(tiny_encoder), tiny_task(n=9).train
    given = prefix_of(classifier).with_states(classifier.tokenize(examples), content_keys(examples))
    assert given.states is not None
    for row, text in enumerate(examples.texts):
        encoded = classifier.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            expected = classifier.model.base_model(**encoded, output_hidden_states=True).hidden_states[1][0].numpy()
        np.testing.assert_allclose(given.states[row].astype(np.float32), expected, atol=2e-3)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {*STACKED, "electra"}))
def test_other_architectures_are_not_cut(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    task = tiny_task()
    model, _ = load_classifier(checkpoint(architecture), task.labels, seed=1)
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)
    assert frozen_depth(model) == 0


@pytest.mark.parametrize("architecture", ["modernbert", "mpnet"])
def test_the_record_says_so_where_an_architecture_cannot_be_cut(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    task = tiny_task(encoder=checkpoint(architecture))
    assert "no layers can be left out" in fit_strategy("partial", task, epochs=1).notes["frozen_layers"]
    assert "frozen_layers" not in fit_strategy("full", task, epochs=1).notes


def test_electra_projects_its_embeddings_so_cutting_does_not_hold(checkpoint: Callable[[str], Path]) -> None:
    classifier, examples = network(checkpoint("electra")), tiny_task(n=9).train
    assert not prefix_of(classifier).holds(classifier.tokenize(examples), content_keys(examples))


def test_nothing_is_frozen_below_a_trained_embedding(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    next(classifier.model.base_model.embeddings.parameters()).requires_grad_(True)
    assert frozen_depth(classifier.model) == 0
    assert frozen_depth(network(tiny_encoder, trained_layers=0).model) == 1  # the top layer always stays
    assert frozen_depth(network(tiny_encoder, trained_layers=2).model) == 0


# --- training


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(frozen, "frozen_depth", lambda _: 0)


@pytest.mark.parametrize("strategy", ["partial", "gradual"])
def test_training_from_states_is_training_the_whole_network(
    strategy: str, tiny_encoder: Path, without: Callable[[], None]
) -> None:
    task = tiny_task(encoder=tiny_encoder)
    with_states = fit_strategy(strategy, task, epochs=4)
    without()
    plain = fit_strategy(strategy, task, epochs=4)
    for one, other in zip(with_states.epochs, plain.epochs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=5e-3)
        assert one["validation_log_loss"] == pytest.approx(other["validation_log_loss"], abs=5e-3)
    np.testing.assert_allclose(with_states.validation, plain.validation, atol=1e-2)
    assert list(dict(with_states.classifier.model.named_parameters())) == list(
        dict(plain.classifier.model.named_parameters())
    )


def test_frozen_weights_are_bit_identical(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    start, _ = load_classifier(tiny_encoder, task.labels, seed=0)
    after = dict(fit_strategy("partial", task, epochs=3).classifier.model.named_parameters())
    below = [n for n, _ in start.named_parameters() if ".embeddings." in n or ".layer.0." in n]
    assert below
    assert all(torch.equal(after[name], dict(start.named_parameters())[name]) for name in below)


def test_lower_layers_see_each_text_once(tiny_encoder: Path, tmp_path: Path, layer_calls: list[int]) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path)
    fit_strategy("partial", task, epochs=6)
    unique = len({*task.train.texts, *task.validation.texts})
    probed = min(4, len(task.train))
    assert sum(layer_calls) == unique + probed  # once for the states, once to see that cutting holds
    layer_calls.clear()
    fit_strategy("partial", task, epochs=6, top_layers=1)
    assert sum(layer_calls) == probed


def test_gradual_computes_frozen_layers_once(tiny_encoder: Path, tmp_path: Path, layer_calls: list[int]) -> None:
    """Five epochs of the head alone, five of the upper layer too: the lower layer runs once for either's states."""
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path)
    found = fit_strategy("gradual", task, epochs=10, thaw_every=5, patience=10, refit=False)
    assert len(found.epochs) == 10
    unique, probed = len({*task.train.texts, *task.validation.texts}), min(4, len(task.train))
    assert 0 < sum(layer_calls) <= 2 * (unique + probed)


def test_scoring_starts_from_states_too(tiny_encoder: Path, tmp_path: Path, layer_calls: list[int]) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path)
    held = tiny_task(n=30).validation
    first, second = (fit_strategy("partial", task, epochs=epochs).classifier for epochs in (2, 3))
    assert isinstance(first, NetworkClassifier)
    assert isinstance(second, NetworkClassifier)
    new = len(set(held.texts) - {*task.train.texts, *task.validation.texts})
    told: list[int] = []
    layer_calls.clear()
    cold = first.predict_proba(held, told.append)
    assert (sum(layer_calls), sum(told)) == (new, len(held))
    assert first.spared >= 0
    layer_calls.clear()
    warm = second.predict_proba(held, told.append)
    assert (sum(layer_calls), sum(told)) == (0, 2 * len(held))
    assert second.spared > 0
    for classifier, found in ((first, cold), (second, warm)):
        np.testing.assert_allclose(classifier.score(classifier.prepare(held)), found, atol=1e-6)


def test_features_start_from_states_bit_for_bit(tiny_encoder: Path, tmp_path: Path, layer_calls: list[int]) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path)
    held = tiny_task(n=30).validation
    extractors = [extractor_of(replace(task, cache=folder)) for folder in (None, tmp_path)]
    whole = extractors[0](held)
    fit_strategy("partial", task, epochs=1).classifier.predict_proba(held)
    layer_calls.clear()
    np.testing.assert_array_equal(extractors[1](held), whole)
    assert sum(layer_calls) == min(4, len(held))  # to see that cutting holds
    assert extractors[1].spared > 0


def test_layers_thawed_in_the_end_are_not_left_out_of_scoring(tiny_encoder: Path, tmp_path: Path) -> None:
    fitted = fit_strategy("gradual", tiny_task(encoder=tiny_encoder, cache=tmp_path), epochs=6, patience=9)
    assert isinstance(fitted.classifier, NetworkClassifier)
    depth = frozen_depth(fitted.classifier.model)
    assert (fitted.classifier.prefix is None) == (depth == 0)
    held = tiny_task(n=30).validation
    exact = fitted.classifier.score(fitted.classifier.prepare(held))
    np.testing.assert_allclose(fitted.classifier.predict_proba(held), exact, atol=1e-6)


@pytest.mark.parametrize("architecture", STACKED)
def test_in_bfloat16_features_are_the_same_whatever_ran_before(
    architecture: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    task = tiny_task(encoder=checkpoint(architecture), cache=tmp_path, runtime=Runtime(precision="bfloat16"))
    held = tiny_task(n=30).validation
    alone = extractor_of(replace(task, cache=None))(held)
    fit_strategy("partial", task, epochs=1).classifier.predict_proba(held)  # leaves rounded states behind
    started = extractor_of(task)
    np.testing.assert_allclose(started(held), alone, atol=5e-3)  # states were computed in other batches
    assert started.spared > 0
    other = replace(task, cache=tmp_path / "other")  # rounded elsewhere than where features are
    fit_strategy("partial", other, epochs=1, top_layers=2).classifier.predict_proba(held)
    started = extractor_of(other)
    np.testing.assert_array_equal(started(held), alone)
    assert started.spared == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_probe_is_scored_from_states_as_from_texts(
    precision: Any, tiny_encoder: Path, tmp_path: Path, layer_calls: list[int]
) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path, runtime=Runtime(precision=precision))
    held = tiny_task(n=30).validation
    fit_strategy("partial", task, epochs=1).classifier.predict_proba(held)
    probe = fit_strategy("linear-probe", task).classifier
    layer_calls.clear()
    found = probe.predict_proba(held)
    assert sum(layer_calls) == min(4, len(held))  # to see that cutting holds
    # Repeated texts are computed once, so batches differ, and with them the last digit.
    tolerance = 1e-6 if precision == "float32" else 1e-2
    np.testing.assert_allclose(found, probe.score(probe.prepare(held)), atol=tolerance)


def test_states_are_written_part_by_part(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, examples = network(tiny_encoder), tiny_task(n=9).train
    tokens, keys = classifier.tokenize(examples), content_keys(examples)
    whole = prefix_of(classifier).with_states(tokens, keys)
    monkeypatch.setattr("headstart.models.prefix._MOST_BYTES", 3 * int(tokens.lengths.max()) * 32 * 4)
    parts = prefix_of(classifier, tmp_path).with_states(tokens, keys)
    assert len(list(tmp_path.rglob("*.safetensors"))) > 1
    assert whole.states is not None
    assert parts.states is not None
    for one, other in zip(whole.states, parts.states, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cold_equals_warm_bit_for_bit(precision: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    runtime = Runtime(precision=precision)
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path, runtime=runtime)
    cold, warm = (fit_strategy("partial", task, epochs=3) for _ in range(2))
    memory = fit_strategy("partial", tiny_task(encoder=tiny_encoder, runtime=runtime), epochs=3)
    assert [e.kind for e in cache.entries(tmp_path)] == ["states"] * 3  # probe, train, validation
    for other in (warm, memory):
        assert cold.epochs == other.epochs
        np.testing.assert_array_equal(cold.validation, other.validation)


def test_a_damaged_segment_is_computed_again(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(encoder=tiny_encoder, cache=tmp_path)
    cold = fit_strategy("partial", task, epochs=2)
    for entry in cache.entries(tmp_path):
        raw = bytearray(entry.path.read_bytes())
        raw[-9] ^= 255
        entry.path.write_bytes(bytes(raw[:-1] if entry.bytes % 2 else raw))
    again = fit_strategy("partial", task, epochs=2)
    assert cold.epochs == again.epochs


def test_states_that_do_not_fit_are_not_kept(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1KB")
    fitted = fit_strategy("partial", tiny_task(encoder=tiny_encoder, cache=tmp_path), epochs=2)
    assert len(fitted.epochs) == 2
    assert cache.entries(tmp_path) == []
    assert "the cache may hold 1e-06 GB (HEADSTART_CACHE_SIZE)" in fitted.notes["frozen_layers"]
    monkeypatch.delenv("HEADSTART_CACHE_SIZE")
    again = fit_strategy("partial", tiny_task(encoder=tiny_encoder, cache=tmp_path), epochs=2)
    assert "frozen_layers" not in again.notes


def test_texts_of_other_weights_lengths_and_depths_are_kept_apart(tiny_encoder: Path, tmp_path: Path) -> None:
    classifier, examples = network(tiny_encoder), Examples.of(["alpha beta", "gamma"])
    tokens, keys = classifier.tokenize(examples), content_keys(examples)
    for count, (depth, key) in enumerate([(1, "a"), (1, "b"), (0, "a")], start=1):
        Prefix(classifier, depth, key=key, cache=tmp_path).with_states(tokens, keys)
        assert len(cache.entries(tmp_path)) == count
