"""Film snippets -> hotel remarks: what a source domain, an encoder and 600 labels give.

Source: 8,530 critics' snippets (packaged). Target: hotel remarks, 600 labels, 2,000 held out, three seeds; settings
are those of examples/hotel_remarks.yaml. With --encoder gru the GRU itself is trained on the snippets and
transferred (examples/hotel_remarks_gru.yaml).

    python benchmarks/film_to_hotel.py --json benchmarks/results/film_to_hotel.json
    python benchmarks/film_to_hotel.py --encoder gru --json benchmarks/results/film_to_hotel_gru.json
"""

from __future__ import annotations

import sys

from common import (
    Claim,
    above,
    add_sizes,
    at_least,
    comparison_result,
    finish,
    new_parser,
    run_example,
    shared_data,
    value,
)
from headstart.experiment.comparison import Comparison

_METRIC = "roc_auc"


def main() -> int:
    parser = new_parser(__doc__, out="film_to_hotel")
    add_sizes(parser, labeled=600, holdout=2000, seeds=3)
    parser.add_argument("--encoder", choices=("minilm", "gru"), default="minilm", help="(%(default)s)")
    options = parser.parse_args()
    gru = options.encoder == "gru"
    if gru and options.out == parser.get_default("out"):
        options.out += "_gru"
    comparison = run_example(
        "hotel_remarks_gru.yaml" if gru else "hotel_remarks.yaml",
        options,
        data=str(shared_data("hotel_reviews.parquet")),
        labeled=options.labeled,
        holdout_size=options.holdout,
        seeds=options.seeds,
        strategies=options.strategies,
    )
    claims = gru_claims(comparison) if gru else claims_of(comparison)
    return finish("film_to_hotel_gru" if gru else "film_to_hotel", options, claims, comparison_result(comparison))


def claims_of(comparison: Comparison) -> list[Claim]:
    """Return what the pretrained encoder must show; claims about strategies that were not asked for are left out."""
    got = {name: value(comparison, name, _METRIC) for name in ("as-is", "full", "tfidf", "lora", "scratch-gru")}
    claims = [
        (("as-is",), at_least("as-is: ROC AUC on the holdout", got["as-is"], 0.94)),
        (("full",), at_least("full: ROC AUC, mean over seeds", got["full"], 0.965)),
        (("full", "tfidf"), above("full above tfidf, ROC AUC", got["full"], got["tfidf"])),
        (("lora", "full"), within("lora within 0.01 of full, ROC AUC", got["lora"], got["full"], 0.01)),
        (("tfidf", "scratch-gru"), above("tfidf above scratch-gru, ROC AUC", got["tfidf"], got["scratch-gru"])),
    ]
    return asked(comparison, claims)


def gru_claims(comparison: Comparison) -> list[Claim]:
    """Return what the transferred GRU must show: the figures of the tutorial that this comparison comes from."""
    got = {name: value(comparison, name, _METRIC) for name in ("as-is", "full", "source+full", "scratch-gru")}
    trained = max([v for v in (got["full"], got["source+full"]) if v is not None], default=None)
    claims = [
        (("as-is",), at_least("as-is: ROC AUC on the holdout (tutorial: 0.85)", got["as-is"], 0.85)),
        (("source+full",), at_least("trained further: ROC AUC (tutorial: 0.93)", trained, 0.93)),
        (
            ("source+full", "scratch-gru"),
            above("source+full above scratch-gru, ROC AUC", got["source+full"], got["scratch-gru"]),
        ),
    ]
    return asked(comparison, claims)


def within(claim: str, got: float | None, other: float | None, distance: float) -> Claim:
    """Return the claim that ``got`` is at most ``distance`` below ``other``."""
    if got is None or other is None:
        return Claim(claim, f">= full - {distance}", "not fitted", False)
    return at_least(claim, got, other - distance)


def asked(comparison: Comparison, claims: list[tuple[tuple[str, ...], Claim]]) -> list[Claim]:
    """Return the claims whose strategies were all part of the comparison."""
    names = {row["name"] for row in comparison.record["strategies"]}
    return [claim for needed, claim in claims if names.issuperset(needed)]


if __name__ == "__main__":
    sys.exit(main())
