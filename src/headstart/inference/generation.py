"""``generate``, ``summarize`` and ``translate``: texts written token by token, through the model classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from headstart.errors import ConfigError, DataError
from headstart.inference.task import NO_LIMIT, Answer, Item, Options, Result

if TYPE_CHECKING:
    from headstart.inference.opening import Opened, Place

_GOES_ON_TOKENS = 64
_WRITTEN_TOKENS = 256
# The parts of a model's own settings per task (`task_specific_params`, which transformers 5 no longer applies).
_OWN_SETTINGS = ("max_length", "min_length", "num_beams", "length_penalty", "no_repeat_ngram_size", "early_stopping")


class WritingOptions(Options):
    """Options of every task that writes."""

    max_new_tokens: int | None = Field(
        None, ge=1, description="most tokens written; by default the model's own number, for generate 64"
    )
    beams: int | None = Field(None, ge=1, description="beams searched; by default the model's own number, usually 1")


class GenerateOptions(WritingOptions):
    """Options of ``generate``."""

    temperature: float = Field(0.0, ge=0, description="0 always writes the likeliest token; above, tokens are drawn")
    top_p: float = Field(1.0, gt=0, le=1, description="draw among the likeliest tokens of this total probability")
    seed: int = Field(0, ge=0, description="of the drawing")


class TranslateOptions(WritingOptions):
    """Options of ``translate``."""

    to_language: str | None = Field(None, description="language wanted, by the model's code (fr, fra_Latn, fr_XX)")
    from_language: str | None = Field(None, description="language of the texts, likewise")


def generate(place: Place, options: GenerateOptions) -> Answer:
    """Open a causal language model; of a text too long for it, the end is kept."""
    from headstart.inference.opening import open_for

    opened = open_for(place)
    tokenizer = opened.tokenizer
    tokenizer.padding_side = tokenizer.truncation_side = "left"  # what is written follows the text's last token
    new = options.max_new_tokens or min(_GOES_ON_TOKENS, opened.limit // 2)
    room = opened.limit - new
    if room < 1:
        raise ConfigError(f"--max-new-tokens {new} leaves no room for the text: the model holds {opened.limit} tokens")
    drawn = options.temperature > 0
    settings: dict[str, Any] = {"do_sample": drawn, "num_beams": options.beams or 1, "max_new_tokens": new}
    settings |= {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0} if drawn else {}

    def batch(texts: list[str]) -> list[Result]:
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=room, return_tensors="pt")
        written = _written(opened, inputs, settings, seed=options.seed)[:, inputs["input_ids"].shape[1] :]
        return [{"generated": text} for text in tokenizer.batch_decode(written, skip_special_tokens=True)]

    def answer(items: Sequence[Item]) -> list[Result]:
        begin = tokenizer.bos_token or ""
        texts = [item.text or begin for item in items]
        blank = [item.row for item, text in zip(items, texts, strict=True) if not text]
        if blank:
            raise DataError(f"text {blank[0]} is empty, and this model has no token to begin with: give it some words")
        return opened.answer(items, batch, texts=texts, beside=new)

    return answer


def summarize(place: Place, options: WritingOptions) -> Answer:
    """Open an encoder-decoder made for summaries."""
    from headstart.inference.opening import open_for

    opened = open_for(place)
    own = _own_settings(opened.model, "summarization")
    return _rewriting(opened, options, own, key="summary", prefix=str(own.get("prefix", "")), forced=None)


def translate(place: Place, options: TranslateOptions) -> Answer:
    """Open an encoder-decoder made for translation: of one pair of languages, or of many.

    Raises:
        ConfigError: the model wants a language named, or does not know the one that is.
    """
    from headstart.inference.languages import choose_languages
    from headstart.inference.opening import open_for

    opened = open_for(place)
    chosen = choose_languages(opened, options.from_language, options.to_language)
    own = _own_settings(opened.model, chosen.settings)
    return _rewriting(opened, options, own, key="translation", prefix=chosen.prefix, forced=chosen.first_token)


def _own_settings(model: Any, name: str) -> dict[str, Any]:
    per_task = getattr(model.config, "task_specific_params", None) or {}
    return dict(per_task.get(name) or {})


def _rewriting(
    opened: Opened, options: WritingOptions, own: dict[str, Any], *, key: str, prefix: str, forced: int | None
) -> Answer:
    """Return what rewrites each text, with the model's own settings where none are given.

    Raises:
        ConfigError: more tokens are wanted than the model can write.
    """
    config = opened.model.config
    names = ("max_decoder_position_embeddings", "max_position_embeddings")
    longest = next((value for name in names if (value := getattr(config, name, None))), NO_LIMIT)
    settings: dict[str, Any] = {name: own[name] for name in _OWN_SETTINGS if own.get(name) is not None}
    settings["do_sample"] = False
    if options.beams is not None:
        settings["num_beams"] = options.beams
    if options.max_new_tokens is not None:
        if options.max_new_tokens >= longest:
            raise ConfigError(f"--max-new-tokens must be less than {longest}, what this model can write")
        settings.pop("max_length", None)
        settings.pop("min_length", None)
        settings["max_new_tokens"] = options.max_new_tokens
    elif "max_length" not in settings and opened.model.generation_config.max_length is None:
        settings["max_new_tokens"] = opened.model.generation_config.max_new_tokens or min(_WRITTEN_TOKENS, longest - 1)
    if forced is not None:
        settings["forced_bos_token_id"] = forced
    tokenizer = opened.tokenizer

    def batch(texts: list[str]) -> list[Result]:
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        written = _written(opened, inputs, settings)
        return [{key: text} for text in tokenizer.batch_decode(written, skip_special_tokens=True)]

    return lambda items: opened.answer(items, batch, texts=[prefix + item.text for item in items])


def _written(opened: Opened, inputs: Any, settings: dict[str, Any], seed: int = 0) -> Any:
    """Return token ids, shape (N, T)."""
    from headstart.models.runtime import seeded

    inputs.pop("token_type_ids", None)
    device = opened.runtime.device
    with seeded(seed):
        return opened.model.generate(**{name: tensor.to(device) for name, tensor in inputs.items()}, **settings)
