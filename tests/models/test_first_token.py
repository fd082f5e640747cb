"""The top layer computed for its first token only gives the head what it would have got."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from headstart.data.labels import Labels
from headstart.models.first_token import use_first_token_only
from headstart.models.loading import load_classifier

LABELS = Labels.of(["a", "b", "c"])


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize("padded", [True, False])
def test_logits_and_gradients_are_those_of_the_whole_layer(
    architecture: str, padded: bool, checkpoint: Callable[[str], Path]
) -> None:
    model, _fresh = load_classifier(checkpoint(architecture), LABELS, seed=0)
    model.eval()
    ids = torch.randint(5, 60, (4, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 7:] = 0
        mask[3, 2:] = 0

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = model(input_ids=ids, attention_mask=mask).logits
        model.zero_grad()
        logits.square().sum().backward()
        return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    logits, gradients = run()
    use_first_token_only(model)
    assert model.base_model.encoder.layer[-1](torch.zeros(1, 5, 32)).shape == (1, 1, 32)
    short_logits, short_gradients = run()
    torch.testing.assert_close(short_logits, logits, atol=1e-6, rtol=1e-5)
    for short, whole in zip(short_gradients, gradients, strict=True):
        torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["distilbert", "albert", "deberta-v2", "mpnet", "xlnet", "modernbert"])
def test_other_architectures_are_left_alone(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    model, _fresh = load_classifier(checkpoint(architecture), LABELS, seed=0)
    use_first_token_only(model)
    assert not any("forward" in vars(module) for module in model.modules())
