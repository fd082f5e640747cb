"""``sentiment`` and ``zero-shot``: one of several labels for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from headstart.inference.task import Answer, Item, Options, Result, number

if TYPE_CHECKING:
    from headstart.data.examples import Examples
    from headstart.inference.opening import Place
    from headstart.models.folder import Model


class SentimentOptions(Options):
    """Options of ``sentiment``."""

    top: int | None = Field(None, ge=1, description="how many of the likeliest answers are given")


class ZeroShotOptions(Options):
    """Options of ``zero-shot``."""

    labels: tuple[str, ...] = Field(description="candidate labels, in words (a,b,c)")
    several: bool = Field(False, description="several labels may fit: each is judged by itself")
    hypothesis: str = Field("This example is {}.", description="sentence that says of a text that a label {} fits it")

    @field_validator("labels", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value) or not all(label.strip() for label in value):
            raise ValueError("must name labels, each once")
        return value

    @field_validator("hypothesis")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{") != 1 or value.count("}") != 1 or "{}" not in value:
            raise ValueError("must hold {} once, where the label goes")
        return value


def sentiment(place: Place, options: SentimentOptions) -> Answer:
    """Open a text classifier: a model folder of this project, or any transformers sequence classifier."""
    from headstart.models.folder import CARD

    if (place.folder / CARD).is_file():
        return _own(place, options)
    return _transformers(place, options)


def _own(place: Place, options: SentimentOptions) -> Answer:
    from headstart.models.predicting import open_model

    model = open_model(place.folder, place.runtime)

    def answer(items: Sequence[Item]) -> list[Result]:
        examples = model.examples([item.text for item in items])
        probabilities = model.classifier.predict_proba(examples)  # (N, C)
        found = [_labeled(model.labels.names, row, options.top) for row in probabilities]
        return [
            {"text": item.text, **one, "label": model.labels.values[row.argmax()], **cut}
            for item, one, row, cut in zip(items, found, probabilities, _cut(model, examples), strict=True)
        ]

    return answer


def _cut(model: Model, examples: Examples) -> list[Result]:
    """Return ``{"cut_tokens": n}`` for each text that is longer than the model's maximum length, else nothing."""
    from headstart.models.batching import tokenize

    holder: Any = getattr(model.classifier, "extractor", model.classifier)
    if not hasattr(holder, "tokenizer"):  # of words, of which any number is read
        return [{}] * len(examples)
    tokens = tokenize(holder.tokenizer, examples, holder.text)
    return [{"cut_tokens": int(n)} if n else {} for n in tokens.full_lengths - tokens.lengths]


def _transformers(place: Place, options: SentimentOptions) -> Answer:
    from transformers import TextClassificationPipeline

    from headstart.inference.opening import open_for

    opened = open_for(place)
    pipeline = TextClassificationPipeline(model=opened.model, tokenizer=opened.tokenizer, device=opened.runtime.device)

    def batch(texts: list[str]) -> list[Result]:
        found = pipeline(texts, batch_size=len(texts), truncation=True, top_k=None)
        return [_labeled([one["label"] for one in each], [one["score"] for one in each], options.top) for each in found]

    return lambda items: opened.answer(items, batch)


def _labeled(names: Sequence[str], scores: Sequence[float], top: int | None) -> Result:
    """Return the best label, its score, and the scores of all (or the ``top``) labels, best first."""
    order = sorted(range(len(names)), key=lambda i: -scores[i])
    ranked = {names[i]: number(scores[i]) for i in order[:top]}
    return {"label": names[order[0]], "score": number(scores[order[0]]), "scores": ranked}


def zero_shot(place: Place, options: ZeroShotOptions) -> Answer:
    """Open a model of textual entailment: a label fits a text that entails the hypothesis made of it.

    Yin et al. 2019, https://arxiv.org/abs/1909.00161, as in transformers' zero-shot pipeline.

    Raises:
        ModelError: none of the model's labels is called entailment.
    """
    from transformers import ZeroShotClassificationPipeline

    from headstart.errors import ModelError
    from headstart.inference.opening import open_for
    from headstart.models.batching import SCORING_TOKENS

    opened = open_for(place)
    known = [str(name) for name in opened.model.config.label2id]
    if not any(name.lower().startswith("entail") for name in known):
        raise ModelError(
            f"{place.name} tells {', '.join(known)} apart: --task zero-shot needs a model with a label 'entailment' "
            "(one trained on MNLI or XNLI)"
        )
    tokenizer = opened.tokenizer
    pipeline = ZeroShotClassificationPipeline(model=opened.model, tokenizer=tokenizer, device=opened.runtime.device)
    hypotheses = [options.hypothesis.format(label) for label in options.labels]
    longest = max(len(ids) for ids in tokenizer(hypotheses, add_special_tokens=False)["input_ids"])
    marks = tokenizer.num_special_tokens_to_add(pair=True) - tokenizer.num_special_tokens_to_add(pair=False)

    def batch(texts: list[str]) -> list[Result]:
        found = pipeline(
            texts,
            candidate_labels=list(options.labels),
            hypothesis_template=options.hypothesis,
            multi_label=options.several,
            batch_size=len(texts) * len(options.labels),
        )
        return [_labeled(one["labels"], one["scores"], None) for one in found]

    # The hypothesis shares the limit with the text; a batch holds every text once per label.
    tokens = max(1, SCORING_TOKENS // len(options.labels))
    return lambda items: opened.answer(items, batch, beside=longest + marks, most_tokens=tokens)
