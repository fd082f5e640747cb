"""Classifiers that are one network: a fine-tuned transformer, or the GRU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models import batching
from headstart.models.batching import TextSettings, Tokens
from headstart.models.checkpoint import quiet_transformers
from headstart.models.classifier import Advance, Prepared, Probabilities, softmax
from headstart.models.first_token import use_first_token_only
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.runtime import Runtime, has_room_for_kernels, ready_to_score
from headstart.models.store import content_keys

if TYPE_CHECKING:
    from headstart.models.prefix import Prefix


# Widths of a small request's batches in bfloat16 are multiples of this.
_WIDTH_STEP = 8


class NetworkClassifier:
    """A sequence classifier of transformers (or our GRU) with its tokenizer.

    Args:
        model: network with ``forward(input_ids, attention_mask, ...)`` giving ``logits`` (B, C).
        tokenizer: its fast tokenizer.
        labels: C labels in the network's class order.
        text: maximum length and which part of a longer text is kept.
        runtime: device and precision.

    Attributes:
        prefix: lower layers that are as the encoder has them, whose states are stored; None where there are none.
        spared: seconds that the last `predict_proba` would have taken longer without stored states.
    """

    kind = "network"

    def __init__(self, model: Any, tokenizer: Any, labels: Labels, text: TextSettings, runtime: Runtime) -> None:
        use_first_token_only(model)
        self.model = model
        self._ready: Any = None
        self.tokenizer = tokenizer
        self.labels = labels
        self.text = text
        self.runtime = runtime
        self.prefix: Prefix | None = None
        self.spared = 0.0

    def tokenize(self, examples: Examples) -> Tokens:
        """Tokenize and cut to the maximum length."""
        return batching.tokenize(self.tokenizer, examples, self.text)

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C); lower layers whose states are stored are not computed again."""
        self.spared = 0.0
        prepared, prefix = self.prepare(examples), self.prefix
        tokens = prepared.tokens
        if prefix is None or prefix.store.folder is None or tokens is None or not prefix.fits(tokens):
            return self.score(prepared, advance)
        keys = content_keys(examples)
        missing = set(prefix.store.missing(keys))
        given = prefix.with_states(tokens, keys, advance)
        self.spared = prefix.store.seconds([key for row, key in enumerate(keys) if row not in missing])
        if advance is not None:
            advance(len(keys) - len(missing))
        with prefix.left_out():
            return softmax(self._logits(ready_to_score(self.model, self.runtime, laid_out=True), given))

    def prepare(self, examples: Examples) -> Prepared:
        """Tokenize."""
        return Prepared(examples, self.tokenize(examples))

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C) of tokenized texts, computed by every layer."""
        assert prepared.tokens is not None
        return softmax(self.logits(prepared.tokens, advance))

    def logits(self, tokens: Tokens, advance: Advance | None = None) -> npt.NDArray[np.float32]:
        """Return logits (N, C), computed in batches of similar length."""
        ready = self._ready or ready_to_score(self.model, self.runtime, laid_out=has_room_for_kernels())
        return self._logits(ready, tokens, advance)

    def _logits(self, network: Any, tokens: Tokens, advance: Advance | None = None) -> npt.NDArray[np.float32]:
        out = np.zeros((len(tokens), len(self.labels)), dtype=np.float32)
        step = self._width_step(tokens)
        with torch.inference_mode(), self.runtime.autocast():
            for rows in batching.scoring_batches(tokens.lengths):
                batch = batching.collate(tokens, rows, self.tokenizer, self.runtime.device, multiple=step)
                out[rows] = network(**batch).logits.float().cpu().numpy()
                if advance is not None:
                    advance(len(rows))
        return out

    def _width_step(self, tokens: Tokens) -> int:
        """Return what the widths of batches are multiples of.

        Kernels in bfloat16 are made for each shape and a thousand are kept. The batches of a file have few shapes, but
        requests to a server never end to bring new ones: there a little padding costs less than new kernels.
        """
        few = len(tokens) > 1 and int(tokens.lengths.sum()) <= batching.SCORING_TOKENS
        longest = int(tokens.lengths.max(initial=0))
        room = longest + _WIDTH_STEP <= self.text.max_length
        return _WIDTH_STEP if few and room and self.runtime.precision == "bfloat16" else 1

    def answers(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return logits (B, C) of one padded batch."""
        logits: torch.Tensor = self.model(**batch).logits
        return logits

    def keep_weights(self) -> None:
        """Say that the weights change no more: what scoring needs is then made once, and one text alone is fast."""
        self._ready = ready_to_score(self.model, self.runtime, laid_out=True)

    def parameters(self) -> int:
        """Return the number of all parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def write(self, folder: Path) -> dict[str, Any]:
        """Write an ordinary transformers checkpoint."""
        self.tokenizer.model_max_length = self.text.max_length
        with quiet_transformers():
            self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))
        return {}

    @classmethod
    def read(
        cls, folder: Path, about: dict[str, Any], labels: Labels, text: TextSettings, runtime: Runtime
    ) -> NetworkClassifier:
        """Read what `write` wrote."""
        model, _fresh = load_classifier(folder, labels, seed=0, keep_head=True)
        made = cls(model, load_tokenizer(folder), labels, text, runtime)
        made.keep_weights()
        return made
