"""``headstart fit``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headstart.cli import completion
from headstart.cli.compare import compare_and_show
from headstart.cli.lazy import single
from headstart.cli.options import AsJson, Data, Masking, Quiet, Set, resolve, with_masking, with_settings
from headstart.errors import ConfigError

_EPILOG = """Examples:

headstart fit reviews.csv --strategy full

headstart fit reviews.csv --strategy lora --set lora.rank=16 --seeds 3 --out runs/lora-16

headstart fit reviews.csv --strategy source+full --source films.csv
"""
Strategy = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help="The way of transferring (`headstart strategies` lists them).",
        autocompletion=completion.strategy,
        rich_help_panel="Fitting",
        show_default=False,
    ),
]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("fit", with_settings(fit, without=("strategies",)), epilog=_EPILOG)


def fit(
    data: Data,
    strategy: Strategy,
    *,
    given: dict[str, Any],
    masking: Masking = None,
    set_: Set = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit one strategy: as compare does, with a table of one row.

    Splits, scores, record and model folder are those of a comparison, in runs/NAME-STRATEGY unless --out says
    otherwise; so a fit can be set beside a comparison on the same data and seed.
    """
    if "," in strategy or not strategy.strip():
        raise ConfigError(f"--strategy takes one name; got '{strategy}' (compare fits several)")
    try:
        config = resolve(data, {**given, "strategies": strategy}, with_masking(set_, masking))
    except ConfigError as problem:  # the flag is called otherwise here
        raise ConfigError([fault.replace("--strategies", "--strategy") for fault in problem.faults]) from problem
    if config.out is None:
        config = config.model_copy(update={"name": f"{config.title}-{strategy}"})
    compare_and_show(config, as_json=json_, quiet=quiet)
