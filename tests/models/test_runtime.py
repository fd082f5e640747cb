"""Device and precision: measured, named, and refused where they mean nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from headstart.data.labels import Labels
from headstart.errors import ConfigError
from headstart.models import runtime
from headstart.models.first_token import use_first_token_only
from headstart.models.loading import load_classifier
from headstart.models.runtime import Runtime, choose_runtime, seeded, with_products_in_bfloat16


def test_auto_measures_in_under_a_second_and_says_the_rates() -> None:
    start = time.perf_counter()
    chosen = choose_runtime("cpu", "auto")
    assert time.perf_counter() - start < 1
    assert set(chosen.product_rates) == {"float32", "bfloat16"}
    assert all(0.01 < rate < 1e6 for rate in chosen.product_rates.values())
    ratio = chosen.product_rates["bfloat16"] / chosen.product_rates["float32"]
    assert chosen.precision == ("bfloat16" if ratio > 1.5 else "float32")


@pytest.mark.parametrize(("bfloat16", "expected"), [(300.0, "bfloat16"), (140.0, "float32"), (20.0, "float32")])
def test_a_small_lead_does_not_pay(bfloat16: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"float32": 100.0, "bfloat16": bfloat16}
    monkeypatch.setattr(runtime, "_product_rate", lambda _device, kind: rates[kind])
    assert choose_runtime("cpu") == Runtime("cpu", expected, rates)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_given_precision_is_taken_without_measuring(precision: str) -> None:
    assert choose_runtime("cpu", precision) == Runtime("cpu", precision, {})  # type: ignore[arg-type]


def test_room_for_kernels_is_made_once_and_left_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    assert not runtime.has_room_for_kernels()  # oneDNN keeps 1,024 by itself
    runtime.keep_kernels()
    assert runtime.has_room_for_kernels()
    for given in ("512", "many"):
        monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", given)
        runtime.keep_kernels()
        assert not runtime.has_room_for_kernels()


def test_auto_device_is_the_processor_where_there_is_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert choose_runtime(precision="float32").device == "cpu"


def test_unknown_precision() -> None:
    with pytest.raises(ConfigError, match=r"'bfloat'.*auto, float32, bfloat16.*Did you mean 'bfloat16'.*--precision"):
        choose_runtime("cpu", "bfloat")


@pytest.mark.parametrize("device", ["gpu", "cpuu", "cpu:x", "", "cuda:9", "meta"])
def test_unusable_device(device: str) -> None:
    with pytest.raises(ConfigError, match=f"'{device}'.*--device cpu") as caught:
        choose_runtime(device, "float32")
    assert "\n" not in str(caught.value)


def test_autocast_computes_products_in_the_precision() -> None:
    a = torch.randn(4, 4)
    for precision, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with Runtime("cpu", precision).autocast():  # type: ignore[arg-type]
            assert (a @ a).dtype == kind
        assert (a @ a).dtype == torch.float32


def test_seeded_gives_the_seeds_numbers_and_puts_the_state_back() -> None:
    torch.manual_seed(1)
    expected_after = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected_after)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)
    with seeded(6):
        assert not torch.equal(torch.rand(3), first)


def test_seeded_puts_the_state_back_after_an_error() -> None:
    before = torch.random.get_rng_state()

    def fail() -> None:
        with seeded(5):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(before, torch.random.get_rng_state())


def test_products_in_bfloat16_are_those_of_autocast(tiny_encoder: Path) -> None:
    model, _fresh = load_classifier(tiny_encoder, Labels.of(["a", "b"]), seed=0)
    use_first_token_only(model.eval())
    cast = with_products_in_bfloat16(model)
    batch = {"input_ids": torch.arange(4, 24).reshape(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    with torch.inference_mode(), Runtime(precision="bfloat16").autocast():
        assert torch.equal(model(**batch).logits, cast(**batch).logits)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    shared = {id(p) for p in model.parameters()} & {id(p) for p in cast.parameters()}
    linear = [m for m in cast.modules() if isinstance(m, torch.nn.Linear)]
    assert all(p.dtype == torch.bfloat16 for m in linear for p in m.parameters())
    assert len(shared) == len(list(model.parameters())) - sum(len(list(m.parameters())) for m in linear)
