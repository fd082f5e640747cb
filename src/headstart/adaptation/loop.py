"""The loop: a fresh head first, then the encoder; held-out loss after each epoch, the best one kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.adaptation.config import AdaptConfig
from headstart.adaptation.corpus import Corpus, token_batches
from headstart.adaptation.language_model import LanguageModel
from headstart.adaptation.masking import Masker
from headstart.adaptation.state import Position, StateStore, restore, uninterrupted
from headstart.errors import HeadstartError
from headstart.models.batching import Rows, Tokens, collate
from headstart.models.classifier import Advance
from headstart.models.runtime import Runtime, seeded
from headstart.training.dropout import use_byte_dropout
from headstart.training.loop import TrainingConfig, checkpointed, set_modes
from headstart.training.optimizer import Optimizer

Batch = tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]
_SCORED_EPOCH = 0  # masks of held-out rows are those of epoch 0, always
_ORDER, _NOISE = 1, 2  # streams of chance; masks have their own


@dataclass(frozen=True)
class Phase:
    """A stretch of training: ``head`` alone, or ``all``."""

    name: str
    rate: float
    epochs: int


def phases_of(lm: LanguageModel, config: AdaptConfig) -> list[Phase]:
    """Return what is trained in which order: a fresh head is warmed up first."""
    warm = [Phase("head", config.head_learning_rate, config.head_epochs)] if lm.fresh and config.head_epochs else []
    return [*warm, Phase("all", config.learning_rate, config.epochs)]


class Adaptation:
    """One adaptation while it runs.

    Args:
        lm: trained in place.
        corpus: rows to train on.
        held: rows that only measure the loss.
        config: rates and lengths.
        runtime: device and precision.
        seed: of masks, order and dropout.
        store: where states are kept, or None.
        advance: told how many rows were done.
        on_epoch: told each epoch's figures.
    """

    def __init__(
        self,
        lm: LanguageModel,
        corpus: Corpus,
        held: Corpus,
        config: AdaptConfig,
        *,
        runtime: Runtime,
        seed: int,
        store: StateStore | None = None,
        advance: Advance | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.lm, self.corpus, self.held, self.config = lm, corpus, held, config
        self.runtime, self.seed, self.store = runtime, seed, store
        self.advance, self.on_epoch = advance, on_epoch
        self.model = lm.model.to(runtime.device)
        # Checkpointing draws the same numbers twice, and can only do so with torch's own.
        self.noise = None if config.checkpointing else use_byte_dropout(self.model, seed)
        vocabulary = int(self.model.config.vocab_size)
        self.masker = (
            None
            if lm.causal
            else Masker.of(
                lm.tokenizer, masking=config.masking, share=config.mask_share, seed=seed, vocabulary=vocabulary
            )
        )
        self.phases = phases_of(lm, config)
        self.best: dict[str, torch.Tensor] = {}
        self._begun = False  # whether there is a step of this run to go on from

    def run(self) -> Position:
        """Train from the start, or from where an interrupted run stood; leave the best epoch's weights.

        Raises:
            HeadstartError: training diverged.
            ConfigError: ``checkpointing`` is wanted of an architecture that has none.
        """
        found = None if self.store is None else self.store.read()
        self.at = Position() if found is None else found[0]
        if self.store is not None and found is not None and math.isfinite(self.at.best_loss):
            self.best = self.store.read_best(self.at.best_epoch)  # weights that move on from here, maybe for the worse
        with seeded(self.seed), checkpointed(self.model, self.config.checkpointing, instead="batch_tokens"):
            for number in range(self.at.phase, len(self.phases)):
                try:
                    with uninterrupted():
                        self._begin(number)
                        if found is not None:
                            restore(self.at, self.model, self.optimizer, found[1])
                            found = None
                    self._phase(number)
                except KeyboardInterrupt:
                    if self._begun and self.store is not None:
                        self.store.write(self.at, self.model, self.optimizer, self.best)
                    raise
        self._restore_best()
        self.model.eval()
        return self.at

    def _begin(self, number: int) -> None:
        if self.phases[number].name == "head":
            self.lm.train_only_head()
        else:
            self.lm.train_body(embeddings=self.config.embeddings, top_layers=self.config.top_layers)
        if self.at.phase != number:
            self.at.phase, self.at.epoch, self.at.step, self.at.moves = number, 0, 0, 0
        self.optimizer = Optimizer(self.model, weight_decay=self.config.weight_decay)

    def _phase(self, number: int) -> None:
        phase, at = self.phases[number], self.at
        is_last = number == len(self.phases) - 1
        if is_last and math.isinf(at.best_loss):
            loss = self._known_loss() if number else self._score()
            with uninterrupted():  # a loss without the weights that have it would be no state to go on from
                self._judge(phase, 0, loss, [])
        while at.epoch < phase.epochs and not (is_last and at.epoch - at.best_epoch >= self.config.patience):
            self._epoch(number)
            loss = self._score()  # interrupted here, the run goes on behind the epoch's last step
            with uninterrupted():
                at.epoch, at.step = at.epoch + 1, 0
                losses, at.losses = at.losses, []
                if is_last:
                    self._judge(phase, at.epoch, loss, losses)
                else:
                    self._tell(phase, at.epoch, loss, losses)

    def _epoch(self, number: int) -> None:
        phase, at = self.phases[number], self.at
        epoch = at.epoch + 1
        generator = np.random.default_rng([self.seed, _ORDER, number, epoch])
        batches = token_batches(self.corpus.tokens.lengths, self.config.batch_tokens, generator)
        set_modes(self.model)
        self._begun = True
        for place in range(at.step, len(batches)):
            planned = len(batches) * phase.epochs
            rate = phase.rate * slope((epoch - 1) * len(batches) + place, planned, self.config.warmup)
            self._make_noise(number, epoch, place)
            loss, count = self._loss(self.corpus, batches[place], epoch + 1000 * number)
            self._step(loss, count, rate, len(batches[place]))
            if self.store is not None and self.store.is_due():
                self.store.write(self.at, self.model, self.optimizer, self.best)

    def _make_noise(self, number: int, epoch: int, place: int) -> None:
        """Set every source of dropout to a state of this very step, whatever was drawn before."""
        seed = np.random.SeedSequence([self.seed, _NOISE, number, epoch, place])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        if self.noise is not None:
            self.noise.state = np.random.SFC64(seed).state

    def _step(self, loss: torch.Tensor, count: int, rate: float, rows: int) -> None:
        total = float(loss.detach())
        if not math.isfinite(total):
            raise HeadstartError("adaptation diverged: the loss is not a number. Lower learning_rate (settings: adapt)")
        if count:
            (loss / count).backward()
        with uninterrupted():  # so that weights, optimizer and position always belong to the same step
            if count:
                self.optimizer.step(rate, self.config.max_grad_norm)
            self.at.losses.append([total, float(count)])
            self.at.curve.append(total / max(1, count))
            self.at.step, self.at.moves = self.at.step + 1, self.optimizer.steps
        if self.advance is not None:
            self.advance(rows)

    def _loss(self, corpus: Corpus, rows: Rows, epoch: int) -> tuple[torch.Tensor, int]:
        """Return the summed loss of the rows' predictions, and how many there are."""
        batch, at, wanted = self.batch(corpus, rows, epoch)
        with self.runtime.autocast():
            return self.lm.loss(batch, at, wanted), len(wanted)

    def batch(
        self, corpus: Corpus, rows: Rows, epoch: int
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return what is read (B, T), where predictions are made (M,), row by row, and the tokens wanted there (M,)."""
        read, places = [], []
        for row in rows:
            ids = corpus.tokens.ids[row]
            if self.masker is None:
                shown, chosen = ids, np.arange(1, len(ids))
            else:
                shown, chosen = self.masker(ids, corpus.words[row], epoch=epoch, row=int(row))
            read.append(shown)
            places.append(chosen)
        kinds = corpus.tokens.types
        tokens = Tokens(
            tuple(read), None if kinds is None else tuple(kinds[r] for r in rows), corpus.tokens.full_lengths[rows]
        )
        device = self.runtime.device
        batch = collate(tokens, np.arange(len(rows)), self.lm.tokenizer, device)
        width = batch["input_ids"].shape[1]
        left = self.lm.tokenizer.padding_side == "left"
        shift = [width - len(ids) if left else 0 for ids in read]
        back = 1 if self.masker is None else 0  # the state before a token predicts it
        at = [b * width + shift[b] + p - back for b, p in enumerate(places)]
        wanted = [corpus.tokens.ids[row][p] for row, p in zip(rows, places, strict=True)]
        return (
            batch,
            torch.from_numpy(np.concatenate(at)).to(device),
            torch.from_numpy(np.concatenate(wanted).astype(np.int64)).to(device),
        )

    def held_out_loss(self) -> float:
        """Return the mean loss per prediction on the held-out rows, whose masks are always the same."""
        self.model.eval()
        total, count = 0.0, 0
        lengths = self.held.tokens.lengths
        # Inside one autocast, and not in inference mode, weights are cast once and not for every batch.
        with torch.no_grad(), self.runtime.autocast():
            for rows in token_batches(lengths, self.config.batch_tokens, np.random.default_rng(0)):
                loss, predictions = self._loss(self.held, rows, _SCORED_EPOCH)
                total, count = total + float(loss), count + predictions
        return total / max(1, count)

    def _score(self) -> float:
        loss = self.held_out_loss()
        if not math.isfinite(loss):
            raise HeadstartError("adaptation diverged: the loss is not a number. Lower learning_rate (settings: adapt)")
        return loss

    def _known_loss(self) -> float:
        """Return the loss that the phase before ended with: nothing has moved since."""
        return float(self.at.epochs[-1]["held_out_loss"])

    def _judge(self, phase: Phase, epoch: int, loss: float, losses: list[list[float]]) -> None:
        if loss < self.at.best_loss:
            self.at.best_loss, self.at.best_epoch = loss, epoch
            self.best = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self._tell(phase, epoch, loss, losses)

    def _tell(self, phase: Phase, epoch: int, loss: float, losses: list[list[float]]) -> None:
        held = {"held_out_loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        figures: dict[str, Any] = {"phase": phase.name, "epoch": epoch, **_mean("train_loss", losses), **held}
        self.at.epochs.append(figures)
        if self.on_epoch is not None:
            self.on_epoch(figures)

    def _restore_best(self) -> None:
        if self.at.best_epoch == self.at.epoch:
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.best:
                    parameter.copy_(self.best[name])


def slope(done: int, planned: int, warmup: float) -> float:
    """Return the share of the peak rate at step ``done``: linear up over the warm-up, then linear down to zero."""
    return TrainingConfig(warmup=warmup).slope(done, planned)


def _mean(name: str, losses: list[list[float]]) -> dict[str, float]:
    """Return the mean loss per prediction, where there was any."""
    count = sum(n for _, n in losses)
    return {name: sum(total for total, _ in losses) / count} if count else {}
