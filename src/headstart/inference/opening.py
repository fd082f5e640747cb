"""Opening the model of a task: found like any encoder, of the right class, with all of its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.errors import ModelError
from headstart.inference.task import NO_LIMIT, Item, Result, batches
from headstart.models.batching import SCORING_TOKENS
from headstart.models.checkpoint import loading, quiet_transformers, refuse_random_weights
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.loading import load_config, load_tokenizer, load_weights
from headstart.models.predicting import winner_or_self
from headstart.models.runtime import Runtime, seeded

_MAPPINGS = {
    "SequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "TokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "QuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "CausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "Seq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
}


@dataclass(frozen=True)
class Place:
    """Where a model is and how it is to be run.

    Attributes:
        name: what the user wrote.
        kind: the class that the task needs (see `Task.kind`).
        task: the task's name, for messages.
        revision: of a hub name.
        runtime: device and precision.
    """

    name: str
    kind: str
    task: str
    revision: str | None
    runtime: Runtime

    @property
    def folder(self) -> Path:
        """The folder given; of a finished comparison, its winner's."""
        return winner_or_self(self.name)

    def encoder(self) -> Encoder:
        """Find the model's files.

        Raises:
            ModelError: they are not there, or only as pickles or code.
        """
        given = str(self.folder) if self.folder.is_dir() else self.name
        return find_encoder(given, self.revision, what="model", flag="--model")


@dataclass(frozen=True)
class Opened:
    """A loaded model.

    Attributes:
        model: transformers model with its head, float32, in evaluation mode, on the device.
        tokenizer: cuts at ``limit`` where asked to truncate.
        limit: most tokens it can read, special tokens included.
        runtime: device and precision.
    """

    model: Any
    tokenizer: Any
    limit: int
    runtime: Runtime

    def answer(
        self,
        items: Sequence[Item],
        one_batch: Callable[[list[str]], Sequence[Result]],
        *,
        texts: Sequence[str] | None = None,
        beside: int = 0,
        cuts: bool = True,
        most_tokens: int = SCORING_TOKENS,
    ) -> list[Result]:
        """Answer items in batches of like length; results in the items' order, each with its ``text``.

        Args:
            items: N inputs.
            one_batch: answers so many texts.
            texts: what the model reads, where it is not the items' texts as they are; shape (N,).
            beside: tokens that each text shares the limit with.
            cuts: what is over the limit is cut off, which ``cut_tokens`` tells.
            most_tokens: in one batch, padding included.
        """
        read = list(texts) if texts is not None else [item.text for item in items]
        lengths = [len(ids) + beside for ids in self.tokenizer(read, verbose=False)["input_ids"]]
        results: list[Result] = [{} for _ in items]
        for places in batches([min(n, self.limit) for n in lengths], most_tokens):
            with torch.inference_mode(), self.runtime.autocast(), quiet_transformers():
                answers = one_batch([read[i] for i in places])
            for i, found in zip(places, answers, strict=True):
                cut = {"cut_tokens": lengths[i] - self.limit} if cuts and lengths[i] > self.limit else {}
                results[i] = {"text": items[i].text, **found, **cut}
        return results


def open_for(place: Place) -> Opened:
    """Load the model of a task with its head.

    Raises:
        ModelError: it is not there, was made for another task, or lacks weights.
    """
    import transformers

    encoder = place.encoder()
    config = load_config(encoder.folder)
    refuse_other_class(place, config)
    # Some translation models have no other; where in the text a token stands is not asked of them.
    tokenizer = load_tokenizer(encoder.folder, slow_too=place.kind == "Seq2SeqLM")
    auto = getattr(transformers, f"AutoModelFor{place.kind}")
    with seeded(0), loading(encoder.folder):
        model, info = load_weights(auto, encoder.folder, config)
    refuse_random_weights(encoder.folder, info, ours=set(), pooler_may_lack=False)
    limit = min(encoder.token_limit(), int(tokenizer.model_max_length or NO_LIMIT))
    if limit < NO_LIMIT:
        tokenizer.model_max_length = limit
    return Opened(model.eval().to(place.runtime.device), tokenizer, limit, place.runtime)


def refuse_other_class(place: Place, config: Any) -> None:
    """Refuse a model that was made for another task: its head would be random, or would mean something else.

    Raises:
        ModelError: with the tasks that it can do.
    """
    stored = [str(name) for name in getattr(config, "architectures", None) or ()]
    if place.kind in kinds_of(config.model_type, stored):
        return
    needed = mapping(place.kind).get(config.model_type)
    raise ModelError(
        f"--task {place.task} needs a {needed or f'model with a {place.kind} head'}, but {place.name} is a "
        f"{', '.join(stored) or config.model_type}{_instead(config.model_type, stored)}"
    )


def kinds_of(model_type: str, architectures: Sequence[str]) -> list[str]:
    """Return the heads that a checkpoint of these architectures can be opened with."""
    found = []
    for kind in _MAPPINGS:
        name = mapping(kind).get(model_type)
        names = (name,) if isinstance(name, str) else tuple(name or ())
        pretraining = kind == "MaskedLM" and any(a.endswith("ForPreTraining") for a in architectures)
        if names and (not architectures or pretraining or set(names) & set(architectures)):
            found.append(kind)
    return found


def mapping(kind: str) -> Any:
    """Return transformers' table from model type to class name for a head."""
    from transformers.models.auto import modeling_auto

    return getattr(modeling_auto, _MAPPINGS[kind])


def _instead(model_type: str, architectures: Sequence[str]) -> str:
    from headstart.inference.table import TASKS

    kinds = kinds_of(model_type, architectures)
    tasks = [name for name, row in TASKS.items() if row.kind in kinds]
    return f"; it can do --task {' or '.join(tasks)}" if tasks else "; it can do --task features"
