"""Packed linear layers against torch's own, in every architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.models import batching, packed
from headstart.models.bert_layers import is_gelu
from headstart.models.first_token import use_first_token_only
from headstart.models.loading import load_body, load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.packed import pack
from headstart.models.runtime import Runtime, ready_to_score

BERT_KIN = {"bert", "roberta", "xlm-roberta", "electra"}

needs_operators = pytest.mark.skipif(
    not packed.available("cpu"), reason="this torch or processor has no such operators"
)


@needs_operators
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_torchs_linear(shape: tuple[int, ...], bias: bool) -> None:
    """The reference is torch's product in bfloat16; GELU stands behind it unrounded, so within its rounding."""
    torch.manual_seed(0)
    linear = nn.Linear(24, 16, bias=bias)
    x = torch.randn(shape)
    made = packed.PackedLinear(linear)
    with torch.inference_mode():
        theirs = linear.to(torch.bfloat16)(x.to(torch.bfloat16))
        torch.testing.assert_close(made(x), theirs)
        made.activation = "gelu"
        torch.testing.assert_close(made(x).float(), nn.functional.gelu(theirs.float()), atol=1e-2, rtol=1e-2)


@needs_operators
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_answers_as_under_autocast(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    task = tiny_task(n=8)
    folder = checkpoint(architecture)
    model, _ = load_classifier(folder, task.labels, seed=0)
    model.eval()
    tokenizer = load_tokenizer(folder)
    tokens = batching.tokenize(tokenizer, task.train, task.text)
    batch = batching.collate(tokens, range(8), tokenizer)  # type: ignore[arg-type]
    before = {name: p.clone() for name, p in model.named_parameters()}
    cast = ready_to_score(model, Runtime(precision="bfloat16"), laid_out=True)
    assert not any(isinstance(m, packed.PackedLinear) for m in ready_to_score(model, Runtime()).modules())
    assert any(isinstance(module, packed.PackedLinear) for module in cast.modules())
    whole = sum(isinstance(module, packed.PackedLayer) for module in cast.modules())
    assert whole == (model.config.num_hidden_layers if architecture in BERT_KIN else 0)
    with torch.inference_mode(), Runtime(precision="bfloat16").autocast():
        theirs, ours = model(**batch).logits.float(), cast(**batch).logits.float()
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
    assert not any(isinstance(module, packed.PackedLinear) for module in model.modules())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@needs_operators
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_whole_layers_are_their_products_one_by_one(head: bool, masked: bool, tiny_encoder: Path) -> None:
    """The reference is the same network packed product by product; with a head its top layer gives first tokens."""
    model = load_classifier(tiny_encoder, tiny_task(n=4).labels, seed=0)[0] if head else load_body(tiny_encoder)
    if head:
        use_first_token_only(model)
    model.eval()
    runtime = Runtime(precision="bfloat16")
    ids = torch.randint(5, 60, (5, 13), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if masked:
        mask[1, 9:] = mask[4, 2:] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "bert_layers", lambda _: nn.ModuleList())
        one_by_one = ready_to_score(model, runtime, laid_out=True)
    whole = ready_to_score(model, runtime, laid_out=True)
    assert not any(isinstance(module, packed.PackedLayer) for module in one_by_one.modules())
    with torch.inference_mode(), runtime.autocast():
        ours, theirs = (network(input_ids=ids, attention_mask=mask)[0].float() for network in (whole, one_by_one))
    seen = mask.bool() if not head else slice(None)
    torch.testing.assert_close(ours[seen], theirs[seen], atol=1e-2, rtol=1e-2)


@needs_operators
@pytest.mark.parametrize("change", ["adapter", "activation", "bias", "left out", "hook", "other states"])
def test_layers_that_are_not_plain_are_packed_by_product(change: str, tiny_encoder: Path) -> None:
    model = load_body(tiny_encoder)
    layer = model.encoder.layer[0]
    if change == "adapter":
        layer.attention.self.query = nn.Sequential(layer.attention.self.query)
    elif change == "activation":
        layer.intermediate.intermediate_act_fn = nn.ReLU()
    elif change == "bias":
        layer.output.dense = nn.Linear(48, 32, bias=False)
    elif change == "left out":
        model.encoder.layer[0] = nn.Identity()
    elif change == "hook":
        layer.register_forward_pre_hook(lambda *_: None)
    else:
        layer.forward = partial(type(layer).forward, layer)
    found = ready_to_score(model, Runtime(precision="bfloat16"), laid_out=True)
    assert [isinstance(layer, packed.PackedLayer) for layer in found.encoder.layer] == [False, True]  # type: ignore[union-attr]


@needs_operators
@pytest.mark.parametrize("room", ["4096", "1024"])
def test_scoring_between_epochs_is_packed_where_kernels_have_room(
    room: str, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task(n=8)
    model, _ = load_classifier(tiny_encoder, task.labels, seed=0)
    classifier = NetworkClassifier(
        model, load_tokenizer(tiny_encoder), task.labels, task.text, Runtime(precision="bfloat16")
    )
    tokens = classifier.tokenize(task.train)
    plain = classifier.logits(tokens)
    made: list[int] = []
    monkeypatch.setattr(packed, "pack", lambda network: (made.append(1), pack(network))[1])
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", room)
    np.testing.assert_allclose(classifier.logits(tokens), plain, atol=2e-2, rtol=2e-2)
    assert bool(made) is (room == "4096")


@needs_operators
@pytest.mark.parametrize("strategy", ["full", "partial", "gradual", "lora", "scratch-transformer", "scratch-gru"])
def test_every_network_is_scored_between_packed_epochs(
    strategy: str, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = replace(tiny_task(n=24, encoder=tiny_encoder), runtime=Runtime(precision="bfloat16"))
    plain = fit_strategy(strategy, task, epochs=3)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")
    again = fit_strategy(strategy, task, epochs=3)
    for one, other in zip(plain.epochs, again.epochs, strict=True):
        assert one["train_loss"] == other["train_loss"]
        assert one["validation_log_loss"] == pytest.approx(other["validation_log_loss"], abs=0.02)


def test_other_activations_are_left_alone() -> None:
    assert is_gelu(nn.GELU())
    for other in (nn.GELU(approximate="tanh"), nn.ReLU(), None):
        assert not is_gelu(other)


def test_elsewhere_than_on_a_processor_nothing_is_packed() -> None:
    assert not packed.available("cuda")
