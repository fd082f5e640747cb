"""``question``: the span of a context that answers a question, read in overlapping windows.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, sections 4.2 and 4.3: a span's score is the sum of its first
token's start logit and its last token's end logit, and "no answer" is scored at the first token. Windows are compared
by these sums and not, as transformers' pipeline did, by probabilities within each, which make a span of a window
without an answer look sure. The score given is the softmax over all spans of all windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from headstart.errors import ConfigError, DataError
from headstart.inference.task import Answer, Item, Options, Result, batches, number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from headstart.inference.opening import Opened, Place

    Logits = npt.NDArray[np.float64]

_LEAST_CONTEXT_TOKENS = 16
_LONGEST_WINDOW = 512  # where the model itself has no limit


class QuestionOptions(Options):
    """Options of ``question``."""

    max_answer_tokens: int = Field(30, ge=1, description="most tokens of an answer")
    overlap: int = Field(128, ge=0, description="tokens that two windows of a long context share")
    may_be_none: bool = Field(False, description="there may be no answer (for models trained on SQuAD 2.0)")


@dataclass(frozen=True)
class Window:
    """A question and a part of its context.

    Attributes:
        item: place of the question among the items.
        ids: what the model is given, by name; T numbers each.
        spans: characters of each token in the context, None for tokens of the question and marks; T entries.
        none_at: place of the token that scores "no answer".
    """

    item: int
    ids: dict[str, list[int]]
    spans: list[tuple[int, int] | None]
    none_at: int


def question(place: Place, options: QuestionOptions) -> Answer:
    """Open an extractive question-answering model."""
    from headstart.inference.opening import open_for

    opened = open_for(place)
    if options.may_be_none and opened.tokenizer.cls_token_id is None:
        raise ConfigError(f"{place.name} has no token to score 'no answer' at; leave --may-be-none out")

    def answer(items: Sequence[Item]) -> list[Result]:
        windows = [w for at, item in enumerate(items) for w in windows_of(opened, item, at, options.overlap)]
        scores = _scores(opened, windows)
        results = []
        for at, item in enumerate(items):
            own = [(w, *s) for w, s in zip(windows, scores, strict=True) if w.item == at]
            results.append({"text": item.text, **best_span(own, str(item.context), options)})
        return results

    return answer


def windows_of(opened: Opened, item: Item, at: int, overlap: int) -> list[Window]:
    """Cut a context into windows that fit beside the question, neighbors sharing ``overlap`` tokens at the most.

    Raises:
        DataError: there is no context, or the question leaves no room for it.
    """
    tokenizer = opened.tokenizer
    if not (item.context or "").strip():
        raise DataError(f"question {item.row} has no context: give the text that holds the answer (--context)")
    longest = min(opened.limit, _LONGEST_WINDOW)
    asked = len(tokenizer(item.text, add_special_tokens=False)["input_ids"])
    room = longest - asked - tokenizer.num_special_tokens_to_add(pair=True)
    if room < min(_LEAST_CONTEXT_TOKENS, longest // 2):
        raise DataError(
            f"question {item.row} has {asked} tokens; the model reads {longest} with the context: shorten it"
        )
    first = tokenizer.padding_side == "right"  # models that pad left were trained with the context first
    pair = (item.text, item.context) if first else (item.context, item.text)
    found = tokenizer(
        *pair,
        truncation="only_second" if first else "only_first",
        max_length=longest,
        stride=min(overlap, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    names = [name for name in tokenizer.model_input_names if name in found]
    made = []
    for window, ids in enumerate(found["input_ids"]):
        parts = found.sequence_ids(window)
        offsets = found["offset_mapping"][window]
        spans = [tuple(o) if part == int(first) else None for part, o in zip(parts, offsets, strict=True)]
        cls = tokenizer.cls_token_id
        none_at = ids.index(cls) if cls in ids else 0
        made.append(Window(at, {name: found[name][window] for name in names}, spans, none_at))
    return made


def _scores(opened: Opened, windows: Sequence[Window]) -> list[tuple[Logits, Logits]]:
    """Return start and end logits of each window, shape (T,) each."""
    import torch

    scores: dict[int, tuple[Logits, Logits]] = {}
    for places in batches([len(w.spans) for w in windows], 2048):
        padded = opened.tokenizer.pad([windows[i].ids for i in places], padding=True, return_tensors="pt")
        with torch.inference_mode(), opened.runtime.autocast():
            out = opened.model(**{name: tensor.to(opened.runtime.device) for name, tensor in padded.items()})
        for row, i in enumerate(places):
            real = padded["attention_mask"][row].bool()
            start, end = (
                logits[row].float().cpu()[real].double().numpy() for logits in (out.start_logits, out.end_logits)
            )
            scores[i] = start, end
    return [scores[i] for i in range(len(windows))]


def best_span(
    windows: Sequence[tuple[Window, Logits, Logits]], context: str, options: QuestionOptions
) -> dict[str, Any]:
    """Return the best span over a question's windows.

    Args:
        windows: with start and end logits, shape (T,) each.
        context: what the windows were cut from.
        options: longest answer, and whether there may be none.

    Returns:
        ``answer``, ``start`` and ``end`` in characters of the context, ``score``; with ``may_be_none`` also
        ``score_none``, and an empty answer where that is the higher one.
    """
    import numpy as np

    sums: list[Logits] = []
    best: tuple[float, int, int] = (-np.inf, 0, 0)
    for window, start, end in windows:
        inside = np.asarray([span is not None for span in window.spans])
        lengths = np.arange(len(start))[None, :] - np.arange(len(start))[:, None]  # (T, T): last minus first token
        possible = inside[:, None] & inside[None, :] & (lengths >= 0) & (lengths < options.max_answer_tokens)
        total = np.where(possible, start[:, None] + end[None, :], -np.inf)
        sums.append(total[possible])
        first, last = np.unravel_index(int(total.argmax()), total.shape)
        if total[first, last] > best[0]:
            best = float(total[first, last]), window.spans[first][0], window.spans[last][1]  # type: ignore[index]
    # A question may have no answer in one window and one in the next: only what every window says counts.
    none = min(start[w.none_at] + end[w.none_at] for w, start, end in windows)
    every = np.concatenate([*sums, [none]] if options.may_be_none else sums)
    whole = every.max() + np.log(np.exp(every - every.max()).sum())
    score, start_at, end_at = np.exp(best[0] - whole), best[1], best[2]
    result = {"answer": context[start_at:end_at], "start": start_at, "end": end_at, "score": number(score)}
    if not options.may_be_none:
        return result
    score_none = np.exp(none - whole)
    if none > best[0]:
        result = {"answer": "", "start": 0, "end": 0, "score": number(score_none)}
    return {**result, "score_none": number(score_none)}
