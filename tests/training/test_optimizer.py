"""The optimizer: AdamW with clipping as torch has them, but for rows of the token embedding that no text holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from headstart.training.optimizer import Optimizer

WORDS, WIDTH = 50, 8


class Bag(nn.Module):
    """A mean of token embeddings under a small network."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, WORDS if tied else 3)
        if tied:
            self.out.weight = self.tokens.weight

    def get_input_embeddings(self) -> nn.Embedding:
        return self.tokens

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # (B, T) -> (B, C)
        out: torch.Tensor = self.out(self.norm(self.tokens(ids).mean(dim=1)))
        return out


def bag(**options: Any) -> Bag:
    torch.manual_seed(0)
    return Bag(**options)


def loss_of(model: Bag, ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(ids) * 20, torch.arange(len(ids)) % 3)


def reference(model: Bag, batches: list[torch.Tensor], rates: list[float], max_norm: float) -> Bag:
    """Return a copy trained by torch's own AdamW and clipping, decay on the matrix only."""
    model = copy.deepcopy(model)
    rest = [model.tokens.weight, *model.norm.parameters(), model.out.bias]
    groups = [{"params": [model.out.weight], "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups)
    for ids, rate in zip(batches, rates, strict=True):
        for group in adamw.param_groups:
            group["lr"] = rate
        loss_of(model, ids).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        adamw.step()
        adamw.zero_grad()
    return model


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e6])
def test_is_adamw_with_clipping_where_every_row_has_a_gradient(max_norm: float) -> None:
    batches = [torch.randperm(WORDS, generator=torch.Generator().manual_seed(i)).view(5, 10) for i in range(6)]
    rates = [1e-2, 2e-2, 1e-2, 5e-3, 1e-3, 1e-3]
    model = bag()
    expected = reference(model, batches, rates, max_norm)
    optimizer = Optimizer(model, weight_decay=0.3)
    for ids, rate in zip(batches, rates, strict=True):
        loss_of(model, ids).backward()
        optimizer.step(rate, max_norm)
    for (name, found), (_, wanted) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-4, msg=name)


def test_rows_that_no_text_holds_do_not_move() -> None:
    model = bag()
    start = model.tokens.weight.detach().clone()
    optimizer = Optimizer(model, weight_decay=0.3)
    seen: list[torch.Tensor] = []
    for ids in (torch.tensor([[1, 2, 3], [3, 4, 5]]), torch.tensor([[1, 1, 9]])):
        before = model.tokens.weight.detach().clone()
        loss_of(model, ids).backward()
        optimizer.step(1e-2, 1.0)
        moved = (model.tokens.weight != before).any(dim=1).nonzero().flatten()
        assert moved.tolist() == sorted(set(ids.flatten().tolist()))
        seen.append(moved)
    still = [i for i in range(WORDS) if i not in torch.cat(seen).tolist()]
    assert torch.equal(model.tokens.weight[still], start[still])


def test_gradients_of_pieces_add_up() -> None:
    whole, divided = bag(), bag()
    ids = torch.arange(30).view(6, 5)
    one, two = Optimizer(whole, weight_decay=0.0), Optimizer(divided, weight_decay=0.0)
    nn.functional.cross_entropy(whole(ids), torch.zeros(6, dtype=torch.long)).backward()
    for piece in (ids[:2], ids[2:]):
        logits, y = divided(piece), torch.zeros(len(piece), dtype=torch.long)
        (nn.functional.cross_entropy(logits, y, reduction="sum") / 6).backward()
    one.step(1e-2, 0.05)
    two.step(1e-2, 0.05)
    for found, wanted in zip(divided.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_a_table_that_is_not_trained_or_is_tied_is_left_alone() -> None:
    frozen, tied = bag(), bag(tied=True)
    frozen.tokens.weight.requires_grad_(False)
    for model in (frozen, tied):
        Optimizer(model, weight_decay=0.0)
        assert not model.tokens.sparse
    assert not any(p is frozen.tokens.weight for g in Optimizer(frozen, weight_decay=0.0).groups for p in g["params"])
