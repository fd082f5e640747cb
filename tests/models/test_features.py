"""Features of frozen encoders: the mean over real tokens, computed once, the same whatever else is in the batch."""

from __future__ import annotations

import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from conftest import ARCHITECTURES, separable_texts
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ConfigError
from headstart.models.batching import TextSettings
from headstart.models.features import FeatureExtractor
from headstart.models.gru import GruConfig, build_tokenizer
from headstart.models.loading import load_body, load_tokenizer, new_classifier
from headstart.models.runtime import Runtime

TEXTS = [*separable_texts(60, 2, 0, 20)[0], "", "x"]
EXAMPLES = Examples.of(TEXTS)
PAIRS = Examples.of(TEXTS, pairs=TEXTS[::-1])


def extractor(folder: Path, **options: Any) -> FeatureExtractor:
    text, runtime = options.pop("text", TextSettings(64)), options.pop("runtime", Runtime())
    return FeatureExtractor(load_body(folder), load_tokenizer(folder), text, runtime, **options)


def cached(folder: Path, cache: Path, **options: Any) -> FeatureExtractor:
    return extractor(folder, cache=cache, **{"key": "weights", **options})


def plain(folder: Path, examples: Examples, layer: int = -1) -> np.ndarray:
    """Compute features one text at a time, without padding, as the definition says."""
    body, tokenizer = load_body(folder), load_tokenizer(folder)
    rows = []
    for i, text in enumerate(examples.texts):
        given = [[text]] if examples.pairs is None else [[text], [examples.pairs[i]]]
        encoded = tokenizer(*given, return_tensors="pt")
        with torch.inference_mode():
            states = body(**encoded, output_hidden_states=True).hidden_states
        rows.append(states[layer][0].mean(dim=0).numpy())
    return np.stack(rows)


class Counting:
    """An encoder body that counts its calls."""

    def __init__(self, body: Any) -> None:
        self.body, self.calls = body, 0
        body.register_forward_pre_hook(lambda *_: setattr(self, "calls", self.calls + 1))


class Counted:
    """Counts the texts that an encoder body is given."""

    def __init__(self, body: Any) -> None:
        self.texts = 0
        body.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _: Any, __: Any, named: dict[str, Any]) -> None:
        self.texts += len(named["input_ids"])


# --- values


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_mean_over_real_tokens(architecture: str, precision: Any, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(architecture)
    tolerance = 2e-6 if precision == "float32" else 0.03
    for examples in (EXAMPLES.take(range(40, 62)), PAIRS.take(range(50, 62))):
        features = extractor(folder, runtime=Runtime(precision=precision))(examples)
        np.testing.assert_allclose(features, plain(folder, examples), atol=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", [0, 1, 2, -1, -3])
def test_chosen_layer(layer: int, precision: Any, tiny_encoder: Path) -> None:
    examples = EXAMPLES.take(range(10))
    features = extractor(tiny_encoder, layer=layer, runtime=Runtime(precision=precision))(examples)
    tolerance = 2e-6 if precision == "float32" else 0.02
    np.testing.assert_allclose(features, plain(tiny_encoder, examples, layer), atol=tolerance)
    others = [k for k in (0, 1, 2) if k != layer % 3]
    assert all(np.abs(features - plain(tiny_encoder, examples, k)).max() > 1e-2 for k in others)


@pytest.mark.parametrize("layer", [3, 12, -4])
def test_layer_that_is_not_there(layer: int, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"layer {layer} is not there.* 0 to 2"):
        cached(tiny_encoder, tmp_path, layer=layer)(EXAMPLES)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_gru_as_an_encoder() -> None:
    tokenizer = build_tokenizer(TEXTS, min_count=1)
    sizes = GruConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=12, dense_size=8)
    body = new_classifier(sizes, Labels.of([0, 1]), seed=0).body.eval()
    features = FeatureExtractor(body, tokenizer, TextSettings(64), Runtime())(EXAMPLES)
    assert features.shape == (62, 12)
    for row in (0, 7, 30):
        with torch.inference_mode():
            states = body(torch.tensor([tokenizer(TEXTS[row])["input_ids"]])).last_hidden_state
        np.testing.assert_allclose(features[row], states[0].mean(dim=0).numpy(), atol=1e-6)
    assert np.isfinite(features).all()
    with pytest.raises(ConfigError, match="layer 1 is not there"):
        FeatureExtractor(body, tokenizer, TextSettings(64), Runtime(), layer=1)(EXAMPLES)


def test_batch_composition_does_not_matter(tiny_encoder: Path) -> None:
    extract = extractor(tiny_encoder)
    together = extract(EXAMPLES)
    rows = np.random.default_rng(0).permutation(62)
    np.testing.assert_allclose(extract(EXAMPLES.take(rows)), together[rows], atol=1e-6)
    alone = np.concatenate([extract(EXAMPLES.take([i])) for i in range(62)])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_shape_type_and_width(tiny_encoder: Path) -> None:
    extract = extractor(tiny_encoder)
    features = extract(EXAMPLES)
    assert features.shape == (62, extract.width) == (62, 32)
    assert features.dtype == np.float32
    assert extract(EXAMPLES.take([])).shape == (0, 32)


def test_a_body_left_in_training_mode_drops_nothing(tiny_encoder: Path) -> None:
    extract = extractor(tiny_encoder)
    expected = extract(EXAMPLES)
    extract.body.train()
    np.testing.assert_array_equal(extract(EXAMPLES), expected)


def test_order_of_a_pair_matters(tiny_encoder: Path) -> None:
    extract = extractor(tiny_encoder)
    turned = Examples.of(PAIRS.pairs or (), pairs=PAIRS.texts)
    assert np.abs(extract(PAIRS) - extract(turned)).max() > 1e-2
    assert np.abs(extract(PAIRS) - extract(EXAMPLES)).max() > 1e-2


def test_bfloat16_is_near_float32_but_not_it(tiny_encoder: Path) -> None:
    exact = extractor(tiny_encoder)(EXAMPLES)
    rough = extractor(tiny_encoder, runtime=Runtime(precision="bfloat16"))(EXAMPLES)
    assert rough.dtype == np.float32
    assert 1e-5 < np.abs(rough - exact).max() < 0.1


# --- the cache


@pytest.mark.parametrize("examples", [EXAMPLES, PAIRS], ids=["texts", "pairs"])
def test_cold_equals_warm_bit_for_bit_and_is_computed_once(
    examples: Examples, tiny_encoder: Path, tmp_path: Path
) -> None:
    extract = cached(tiny_encoder, tmp_path)
    counting = Counting(extract.body)
    cold = extract(examples)
    calls = counting.calls
    assert calls > 0
    warm = extract(examples)
    assert counting.calls == calls
    assert cold.dtype == warm.dtype
    np.testing.assert_array_equal(cold, warm)
    np.testing.assert_allclose(cold, extractor(tiny_encoder)(examples), atol=1e-6)
    np.testing.assert_array_equal(cold, cached(tiny_encoder, tmp_path)(examples))


def _garbage(file: Path) -> None:
    file.write_bytes(b"\x00garbage" * 40)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _one_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(bytes(raw))


def _header_only(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


def _broken_header(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[10:30] = b"{'descr': ((((((((((("[:20]
    file.write_bytes(bytes(raw))


def _bare_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps([1, 2]))


def _zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"x")


def _broken_zip(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04 and nothing that follows")


def _safetensors(values: np.ndarray, **changes: np.ndarray) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        whole = load_file(str(file))
        save_file({**whole, "values": values, **changes}, str(file), metadata={"headstart": '{"seconds": 1, "sum": 0}'})

    return damage


DAMAGES: list[Callable[[Path], None]] = [
    _garbage, _truncated, _header_only, _broken_header, _bare_pickle, _zip, _broken_zip, 
     _one_bit, _safetensors(np.zeros((62, 31), np.float32)), _safetensors(np.zeros((62, 32), np.float64)),
    _safetensors(np.zeros((62, 32), np.float32)), lambda file: file.write_bytes(b""),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__.strip("_<>"))
def test_damaged_entry_is_computed_again(damage: Callable[[Path], None], tiny_encoder: Path, tmp_path: Path) -> None:
    extract = cached(tiny_encoder, tmp_path)
    expected = extract(EXAMPLES)
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    np.testing.assert_array_equal(extract(EXAMPLES), expected)
    assert len(file.read_bytes()) == len(whole)  # the seconds it took are noted in it
    np.testing.assert_array_equal(cached(tiny_encoder, tmp_path)(EXAMPLES), expected)


def test_whatever_changes_the_features_changes_the_entry(tiny_encoder: Path, tmp_path: Path) -> None:
    variants: list[tuple[dict[str, Any], Examples]] = [
        ({}, EXAMPLES),
        ({"text": TextSettings(12)}, EXAMPLES),
        ({"text": TextSettings(12, "tail")}, EXAMPLES),
        ({"text": TextSettings(12, "head-tail")}, EXAMPLES),
        ({"layer": 1}, EXAMPLES),
        ({"runtime": Runtime(precision="bfloat16")}, EXAMPLES),
        ({"key": "other weights"}, EXAMPLES),
        ({}, PAIRS),
        ({}, Examples.of(["y"])),
    ]
    for count, (options, examples) in enumerate(variants, start=1):
        features = cached(tiny_encoder, tmp_path, **options)(examples)
        assert len(list(tmp_path.rglob("*.safetensors"))) == count
        values = {name: value for name, value in options.items() if name != "key"}
        np.testing.assert_array_equal(features, extractor(tiny_encoder, **values)(examples))


def test_texts_are_found_one_by_one(tiny_encoder: Path, tmp_path: Path) -> None:
    extract = cached(tiny_encoder, tmp_path)
    first = extract(EXAMPLES.take(range(40)))
    counted = Counted(extract.body)
    both = extract(Examples.of([*TEXTS[30:50], *TEXTS[:35], "new", "new"]))
    assert counted.texts == 11  # ten of the twenty, and the new one once
    np.testing.assert_array_equal(both[20:55], first[:35])
    np.testing.assert_array_equal(both[:10], first[30:40])
    np.testing.assert_array_equal(both[55], both[56])
    np.testing.assert_allclose(both[:20], extractor(tiny_encoder)(EXAMPLES.take(range(30, 50))), atol=1e-6)


def test_what_is_stored_spares_its_share_of_the_pass_that_computed(tiny_encoder: Path, tmp_path: Path) -> None:
    extract = cached(tiny_encoder, tmp_path)
    start = time.perf_counter()
    extract(EXAMPLES)
    seconds = time.perf_counter() - start
    assert extract.spared == 0
    again = cached(tiny_encoder, tmp_path)
    again(EXAMPLES.take(range(5)))
    assert 0 < again.spared < seconds
    five = again.spared
    again(EXAMPLES)
    assert again.spared == pytest.approx(five * len(EXAMPLES) / 5, rel=0.01)


def test_labels_and_row_numbers_do_not_change_the_entry(tiny_encoder: Path, tmp_path: Path) -> None:
    extract = cached(tiny_encoder, tmp_path)
    extract(EXAMPLES)
    extract(Examples.of(TEXTS, [0] * 62))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("missing", ["key", "cache"])
def test_nothing_is_kept_without_key_or_folder(missing: str, tiny_encoder: Path, tmp_path: Path) -> None:
    given = {"key": "weights", "cache": tmp_path, missing: None}
    extract = extractor(tiny_encoder, **given)
    np.testing.assert_array_equal(extract(EXAMPLES), extractor(tiny_encoder)(EXAMPLES))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_work_is_told_cold_and_warm(tiny_encoder: Path, tmp_path: Path) -> None:
    extract = cached(tiny_encoder, tmp_path)
    for _ in range(2):
        done: list[int] = []
        extract(EXAMPLES, done.append)
        assert sum(done) == 62
