"""``headstart adapt``."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import completion, running
from headstart.cli.lazy import single
from headstart.cli.options import settings_of
from headstart.errors import ConfigError

_EPILOG = """Examples:

headstart adapt reviews.csv --out adapted

headstart adapt reviews.csv --encoder minilm --masking whole-word --set adapt.epochs=5 --out adapted

headstart compare labeled.csv --encoder adapted
"""
File = Annotated[
    str, typer.Argument(metavar="FILE", help="Texts: CSV, TSV, JSON lines or Parquet file; labels are not looked at.")
]
Encoder = Annotated[
    str,
    typer.Option(
        "--encoder",
        metavar="NAME|FOLDER",
        help="Encoder to start from: catalog name, local folder, hub name or registered model (models:/NAME@ALIAS).",
        autocompletion=completion.encoder,
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", metavar="NAME", help="Branch, tag or commit on the hub.")]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to write the adapted encoder to.")]
Masking = Annotated[
    str | None,
    typer.Option(
        "--masking",
        metavar="token|whole-word|span",
        help="What is masked as one (default: token).",
        autocompletion=completion.masking,
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="adapt.KEY=VALUE", help="Another setting, e.g. adapt.epochs=5; may be repeated."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of masks, order, dropout and fresh head.")]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("adapt", adapt, epilog=_EPILOG)


def adapt(
    file: File,
    out: Out,
    encoder: Encoder = "minilm",
    revision: Revision = None,
    masking: Masking = None,
    set_: Set = None,
    seed: Seed = 0,
    text: running.Text = None,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    threads: running.Threads = None,
) -> None:
    """Train an encoder further on texts without labels: tokens are masked, and it learns to fill them in.

    The output is an ordinary encoder folder, with its language-model head, for --encoder and for any program that
    reads transformers checkpoints. The epoch with the lowest held-out loss is kept. The same command again goes on
    where it stopped.
    """
    from headstart.cli.reporting import reporter
    from headstart.experiment.adapting import adapt as run
    from headstart.models.runtime import keep_freed_memory

    settings = settings_of(set_)
    if strange := sorted(set(settings) - {"adapt"}):
        raise ConfigError(
            [f"--set {name}.…: only settings of adapt can be set here: adapt.KEY=VALUE" for name in strange]
        )
    values = settings.get("adapt", {}) | ({} if masking is None else {"masking": masking})
    keep_freed_memory()
    try:
        with reporter("log_loss", quiet=quiet) as listener:
            run(
                file,
                out=out,
                encoder=encoder,
                revision=revision,
                text=running.columns(text) or ("text",),
                seed=seed,
                device=device,
                precision=precision,
                threads=threads,
                encoding=encoding,
                separator=running.character(separator),
                reporter=listener,
                **values,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command again goes on where it stopped", err=True)
        raise typer.Exit(130) from None
    if not quiet:
        running.note(f"Encoder: {out}")
        running.note(f"Next:    headstart compare FILE --encoder {out}")
