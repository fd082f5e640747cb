"""``ner`` and ``fill-mask``: answers for the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from headstart.errors import DataError, ModelError
from headstart.inference.task import NO_LIMIT, Answer, Item, Options, Result, number

if TYPE_CHECKING:
    from headstart.inference.opening import Place

# How people write a mask, whatever the model's own is.
_MASKS = ("[MASK]", "<mask>")
_MOST_OVERLAP_TOKENS = 128


class NerOptions(Options):
    """Options of ``ner``."""

    join: Literal["simple", "first", "average", "max"] = Field(
        "simple",
        description="how pieces become spans: simple takes them as they are; first, average and max give every word "
        "one label, that of its first piece, of their mean, or of its surest piece",
    )


class FillMaskOptions(Options):
    """Options of ``fill-mask``."""

    top: int = Field(5, ge=1, description="how many of the likeliest answers are given")


def ner(place: Place, options: NerOptions) -> Answer:
    """Open a token classifier; texts over its limit are read in overlapping windows, so that nothing is cut."""
    from transformers import TokenClassificationPipeline

    from headstart.inference.opening import open_for

    opened = open_for(place)
    pipeline = TokenClassificationPipeline(model=opened.model, tokenizer=opened.tokenizer, device=opened.runtime.device)
    windows = {"stride": min(_MOST_OVERLAP_TOKENS, opened.limit // 4)} if opened.limit < NO_LIMIT else {}

    def batch(texts: list[str]) -> list[Result]:
        found = pipeline(texts, batch_size=len(texts), aggregation_strategy=options.join, **windows)
        return [{"spans": [_span(text, one) for one in each]} for text, each in zip(texts, found, strict=True)]

    return lambda items: opened.answer(items, batch, cuts=False)


def _span(text: str, found: dict[str, Any]) -> Result:
    """Return one span as the text has it, without blanks at its ends."""
    start, end = int(found["start"]), int(found["end"])
    words = text[start:end]
    start += len(words) - len(words.lstrip())
    return {
        "label": found["entity_group"],
        "words": words.strip(),
        "start": start,
        "end": start + len(words.strip()),
        "score": number(found["score"]),
    }


def fill_mask(place: Place, options: FillMaskOptions) -> Answer:
    """Open a masked language model; ``[MASK]`` and ``<mask>`` both stand for its own mask.

    Raises:
        ModelError: its tokenizer has no mask.
    """
    from transformers import FillMaskPipeline

    from headstart.inference.opening import open_for

    opened = open_for(place)
    mask = opened.tokenizer.mask_token
    if mask is None:
        raise ModelError(f"the tokenizer of {place.name} has no mask: --task fill-mask needs a masked language model")
    pipeline = FillMaskPipeline(model=opened.model, tokenizer=opened.tokenizer, device=opened.runtime.device)

    def batch(texts: list[str]) -> list[Result]:
        found = pipeline(texts, batch_size=len(texts), top_k=options.top, tokenizer_kwargs={"truncation": True})
        if len(texts) == 1:
            found = [found]
        # One mask gives its choices, several a list of choices each.
        each = [masks if isinstance(masks[0], list) else [masks] for masks in found]
        return [{"masks": [[_word(choice) for choice in choices] for choices in masks]} for masks in each]

    def answer(items: Sequence[Item]) -> list[Result]:
        texts = [_masked(item.text, mask) for item in items]
        _refuse_maskless(items, texts, opened)
        return opened.answer(items, batch, texts=texts)

    return answer


def _word(choice: dict[str, Any]) -> Result:
    return {"word": str(choice["token_str"]).strip(), "score": number(choice["score"])}


def _masked(text: str, mask: str) -> str:
    for written in _MASKS:
        text = text.replace(written, mask)
    return text


def _refuse_maskless(items: Sequence[Item], texts: Sequence[str], opened: Any) -> None:
    """Refuse texts without a mask, or whose first mask is beyond what the model reads.

    Raises:
        DataError: each such text is named.
    """
    tokenizer = opened.tokenizer
    read = tokenizer(list(texts), truncation=True, verbose=False)["input_ids"]
    faults = []
    for item, text, ids in zip(items, texts, read, strict=True):
        if tokenizer.mask_token not in text:
            faults.append(f"text {item.row} has no [MASK]: put it where a word is wanted ({item.text!r:.60})")
        elif tokenizer.mask_token_id not in ids:
            faults.append(f"text {item.row}: its [MASK] is beyond the {opened.limit} tokens that the model reads")
    if faults:
        raise DataError(faults)
