"""Brazilian Portuguese reviews: from scratch, pretrained, and pretrained further on the unlabeled ones.

6,059 reviews, 1,000 held out, 600, 150 and 50 labels, three seeds; the others are unlabeled. Settings are those of
examples/portuguese_reviews.yaml.

    python benchmarks/portuguese_reviews.py --json benchmarks/results/portuguese_reviews.json
"""

from __future__ import annotations

import argparse
import sys

from common import (
    Claim,
    add_sizes,
    at_least,
    comparison_result,
    finish,
    new_parser,
    run_example,
    said,
    shared_data,
    shared_encoder,
    value,
)
from headstart.experiment.comparison import Comparison

_METRIC = "accuracy"
_FEWER = (150, 50)


def main() -> int:
    parser = new_parser(__doc__, out="portuguese_reviews")
    add_sizes(parser, labeled=600, holdout=1000, seeds=3)
    parser.add_argument("--fewer", type=int, nargs="*", default=list(_FEWER), metavar="N", help="labels (150 50)")
    parser.add_argument("--encoder", metavar="NAME", help="another encoder, e.g. minilm or a hub name")
    parser.add_argument("--adapt-epochs", type=int, metavar="N", help="by default as adapt+ does")
    options = parser.parse_args()
    out = options.out
    comparisons = {}
    for labeled in (options.labeled, *options.fewer):
        options.out = f"{out}/{labeled}"
        comparisons[labeled] = compared(options, labeled)
    claims = claims_of(comparisons[options.labeled])
    for labeled in options.fewer:
        claims += fewer_claims(comparisons[labeled], labeled)
    result = comparison_result(comparisons[options.labeled])
    figures = {
        **result,
        "adaptation": {str(n): c.record["adaptation"] for n, c in comparisons.items()},
        "stages": {str(n): c.record["stages"] for n, c in comparisons.items()},
        "fewer": {str(n): comparison_result(comparisons[n]) for n in options.fewer},
    }
    return finish("portuguese_reviews", options, claims, figures)


def compared(options: argparse.Namespace, labeled: int) -> Comparison:
    """Run the example with so many labels."""
    data = shared_data("reviews_pt.parquet")
    encoder = options.encoder or shared_encoder()
    settings = None if options.adapt_epochs is None else {"adapt": {"epochs": options.adapt_epochs}}
    return run_example(
        "portuguese_reviews.yaml",
        options,
        data=str(data),
        encoder=encoder,
        labeled=labeled,
        holdout_size=options.holdout,
        seeds=options.seeds,
        strategies=options.strategies,
        settings=settings,
    )


def claims_of(comparison: Comparison) -> list[Claim]:
    """Return what the three options must show; claims about strategies that were not asked for are left out."""
    names = ("tfidf", "scratch-transformer", "full", "adapt+full")
    got = {name: value(comparison, name, _METRIC) for name in names}
    claims = [
        ("tfidf", "full", lead("full above tfidf, accuracy", got["full"], got["tfidf"], 0.02)),
        (
            "scratch-transformer",
            "full",
            lead("full above scratch-transformer, accuracy", got["full"], got["scratch-transformer"], 0.08),
        ),
        (
            "adapt+full",
            "full",
            lead("adapt+full not below full by more than a point, accuracy", got["adapt+full"], got["full"], -0.01),
        ),
    ]
    there = {row["name"] for row in comparison.record["strategies"]}
    return [claim for one, other, claim in claims if {one, other} <= there]


def fewer_claims(comparison: Comparison, labeled: int) -> list[Claim]:
    """Return what adaptation gives with fewer labels, as the record has it; anything that is known is shown."""
    gains = [g for g in comparison.record["stages"] if g["strategy"] == "adapt+full" and g["without"] == "full"]
    return [
        Claim(
            f"with {labeled} labels: adapt+full minus full, accuracy",
            "shown with its interval",
            f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]",
            gain["value"] is not None,
        )
        for gain in gains
    ]


def lead(claim: str, got: float | None, other: float | None, distance: float) -> Claim:
    """Return the claim that ``got`` is at least ``distance`` above ``other``."""
    if got is None or other is None:
        return Claim(claim, f">= {said(other)} {distance:+}", "not fitted", False)
    return at_least(claim, got, round(other + distance, 6))


if __name__ == "__main__":
    sys.exit(main())
