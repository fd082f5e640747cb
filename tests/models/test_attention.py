"""Attention as products gives what torch's fused attention gives, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.data.labels import Labels
from headstart.models import attention
from headstart.models.attention import attend
from headstart.models.loading import load_classifier
from headstart.models.runtime import Runtime

LABELS = Labels.of(["a", "b", "c"])


def mask_of(kind: str, texts: int, queries: int, keys: int) -> torch.Tensor | None:
    """Return a mask of a kind; every query may look at something."""
    if kind == "none":
        return None
    seen = torch.arange(keys) < torch.arange(1, texts + 1).clamp(max=keys)[:, None, None, None]  # (B, 1, 1, K)
    if kind == "boolean":
        return seen.expand(texts, 1, queries, keys)
    return torch.where(seen, torch.linspace(-1, 1, keys), -1e9)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 5, 9, 31, 32, 40]),
    st.integers(1, 400), st.sampled_from(["none", "boolean", "added"]),
)  # fmt: skip
def test_contexts_and_gradients_are_those_of_the_fused_kernel(texts, heads, queries, keys, at_once, kind):
    generator = torch.Generator().manual_seed(0)
    width = 8
    given_ = [torch.randn(texts, heads, n, width, generator=generator) for n in (queries, keys, keys)]
    outer = torch.randn(texts, heads, queries, width, generator=generator)
    mask = mask_of(kind, texts, queries, keys)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [x.to(dtype).requires_grad_() for x in given_]
        contexts = attend(*inputs, mask, 0.3)
        contexts.backward(outer.to(dtype))
        return [contexts.detach().float(), *(x.grad.float() for x in inputs)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_MOST_SCORES", at_once)
        products = run(torch.bfloat16)
    for product, fused in zip(products, run(torch.float32), strict=True):  # float32 goes through torch's own
        torch.testing.assert_close(product, fused, atol=0.05, rtol=0.05)


def test_a_text_with_nothing_to_look_at_gives_numbers():
    x = torch.randn(2, 1, 3, 4, dtype=torch.bfloat16)
    assert attend(x, x, x, torch.zeros(2, 1, 3, 3, dtype=torch.bool), 1.0).isfinite().all()


def test_dropout_of_probabilities_is_left_to_torch():
    x = torch.randn(1, 2, 5, 4, dtype=torch.bfloat16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = attend(x, x, x, None, 0.5, dropout=0.5)
        torch.manual_seed(0)
        torch.testing.assert_close(
            ours, nn.functional.scaled_dot_product_attention(x, x, x, scale=0.5, dropout_p=0.5), atol=0, rtol=0
        )


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "albert", "electra", "modernbert"])
def test_models_answer_in_bfloat16_as_with_the_fused_kernel(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    model, _fresh = load_classifier(checkpoint(architecture), LABELS, seed=0)
    assert model.config._attn_implementation == attention.NAME
    model.eval()
    ids = torch.randint(5, 60, (4, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[3, 2:] = 0
    with torch.no_grad(), Runtime(precision="bfloat16").autocast():
        products = model(input_ids=ids, attention_mask=mask).logits.float()
        model.set_attn_implementation("sdpa")
        fused = model(input_ids=ids, attention_mask=mask).logits.float()
    torch.testing.assert_close(products, fused, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("architecture", ["deberta-v2", "mpnet", "xlnet"])
def test_architectures_with_an_attention_of_their_own_are_left_alone(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    model, _fresh = load_classifier(checkpoint(architecture), LABELS, seed=0)
    assert model.config._attn_implementation != attention.NAME


def test_a_written_configuration_names_no_attention(tiny_encoder: Path, tmp_path: Path) -> None:
    model, _fresh = load_classifier(tiny_encoder, LABELS, seed=0)
    model.save_pretrained(str(tmp_path))
    assert attention.NAME not in (tmp_path / "config.json").read_text()
