"""The one table of strategies: a row each."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from headstart.strategies import (
    as_is,
    boosted,
    contrastive,
    full,
    gradual,
    linear_probe,
    lora,
    majority,
    partial,
    scratch_gru,
    scratch_transformer,
    tfidf,
)
from headstart.strategies.task import Fit, NoConfig


@dataclass(frozen=True)
class Strategy:
    """A row of the table.

    Attributes:
        name: as the user writes it.
        fit: the function that does it.
        config: type of its settings.
        starts_from: ``nothing``, ``architecture``, ``encoder`` or ``source``: what has to be there.
        summary: one line.
        origin: where it comes from.
        cost: work per training text and epoch, in forward passes of the encoder over one text (3 = forward and
            backward through everything; 0 = negligible), for the estimate of time.
        gru: whether it means something when the encoder is the GRU.
        learns: whether more labeled texts change what it says of a text, so that ``+self-train`` means something.
        without: the strategy that it is but for what its name says, which the record compares it with; empty for none.
    """

    name: str
    fit: Fit
    config: type[BaseModel]
    starts_from: str
    summary: str
    origin: str
    cost: float
    gru: bool = True
    learns: bool = True
    without: str = ""

    @property
    def needs_encoder(self) -> bool:
        """Whether an encoder folder has to be there."""
        return self.starts_from in ("architecture", "encoder")

    @property
    def takes_source(self) -> bool:
        """Whether ``source+`` in front of it means something."""
        return self.starts_from == "encoder"


_ROWS = (
    Strategy(
        "majority",
        majority.fit,
        NoConfig,
        "nothing",
        "class shares; the floor of every table",
        "",
        0.0,
        learns=False,
    ),
    Strategy(
        "tfidf",
        tfidf.fit,
        tfidf.TfidfConfig,
        "nothing",
        "logistic regression on word 1-2-gram TF-IDF",
        "the cheap baseline",
        0.0,
    ),
    Strategy(
        "scratch-gru",
        scratch_gru.fit,
        scratch_gru.ScratchGruConfig,
        "nothing",
        "embedding, bidirectional GRU, dense layers, from random weights",
        "the classic baseline",
        0.15,
    ),
    Strategy(
        "scratch-transformer",
        scratch_transformer.fit,
        scratch_transformer.ScratchTransformerConfig,
        "architecture",
        "the encoder's architecture from random weights",
        "no transfer",
        3.0,
        gru=False,
    ),
    Strategy(
        "as-is",
        as_is.fit,
        NoConfig,
        "source",
        "the source classifier, not trained further",
        "zero training",
        0.0,
        learns=False,
    ),
    Strategy(
        "linear-probe",
        linear_probe.fit,
        linear_probe.LinearProbeConfig,
        "encoder",
        "logistic regression on frozen features",
        "feature extraction",
        1.0,
    ),
    Strategy(
        "boosted",
        boosted.fit,
        boosted.BoostedConfig,
        "encoder",
        "CatBoost on frozen features and named columns",
        "feature extraction",
        1.0,
    ),
    Strategy(
        "partial",
        partial.fit,
        partial.PartialConfig,
        "encoder",
        "top layers trained, the rest frozen",
        "freeze / unfreeze",
        1.8,
    ),
    Strategy(
        "gradual",
        gradual.fit,
        gradual.GradualConfig,
        "encoder",
        "thawed from the head down, lower layers at lower rates",
        "ULMFiT, Howard & Ruder 2018",
        3.0,
        without="full",
    ),
    Strategy("full", full.fit, full.FullConfig, "encoder", "every weight trained", "fine-tuning", 3.0),
    Strategy(
        "lora",
        lora.fit,
        lora.LoraConfig,
        "encoder",
        "low-rank adapters and head trained, then merged",
        "LoRA, Hu et al. 2021",
        2.4,
        gru=False,
    ),
    Strategy(
        "contrastive",
        contrastive.fit,
        contrastive.ContrastiveConfig,
        "encoder",
        "encoder trained on pairs of labeled texts, then a linear head",
        "SetFit, Tunstall et al. 2022",
        3.0,
        gru=False,
        without="linear-probe",
    ),
)
STRATEGIES: dict[str, Strategy] = {row.name: row for row in _ROWS}
