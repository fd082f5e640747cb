"""``features``: an encoder's states, averaged over a text's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from headstart.inference.task import Answer, Item, Options, Result, number

if TYPE_CHECKING:
    from headstart.inference.opening import Place

_LONGEST = 512  # where the model itself has no limit


class FeaturesOptions(Options):
    """Options of ``features``."""

    max_length: int | None = Field(None, ge=4, description="most tokens per text; by default the model's limit")
    layer: int = Field(-1, description="which layer's states are averaged; -1 the last")


def features(place: Place, options: FeaturesOptions) -> Answer:
    """Open an encoder; what `headstart.TextFeatures` gives, without its cache."""
    from headstart.data.examples import Examples
    from headstart.models.batching import tokenize
    from headstart.models.features import FeatureExtractor
    from headstart.models.loading import load_body, load_tokenizer
    from headstart.models.text_features import text_settings

    encoder = place.encoder()
    tokenizer = load_tokenizer(encoder.folder)
    longest = options.max_length or min(encoder.token_limit(), _LONGEST)
    settings = text_settings([encoder], longest, "head")
    extract = FeatureExtractor(load_body(encoder.folder), tokenizer, settings, place.runtime, layer=options.layer)

    def answer(items: Sequence[Item]) -> list[Result]:
        examples = Examples.of([item.text for item in items])
        tokens = tokenize(tokenizer, examples, settings)
        return [
            {"text": item.text, "features": [number(x) for x in row], **({"cut_tokens": int(cut)} if cut else {})}
            for item, row, cut in zip(items, extract(examples), tokens.full_lengths - tokens.lengths, strict=True)
        ]

    return answer
