"""``headstart inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import completion, registered, running
from headstart.cli.lazy import single
from headstart.cli.tables import line, show, table
from headstart.errors import counted

if TYPE_CHECKING:
    from headstart.models.inspecting import Inspected, Piece, Tensor
    from headstart.models.movement import Moved, Movement

_EPILOG = """Examples:

headstart inspect minilm

headstart inspect runs/reviews/best --tokens "Not bad at all"

headstart inspect runs/reviews/best --against minilm
"""
Target = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Model folder, comparison folder (its winner), registered model (models:/NAME@ALIAS), encoder folder, "
        "catalog name or hub name.",
        autocompletion=completion.encoder,
    ),
]
Tokens = Annotated[
    str | None, typer.Option("--tokens", metavar="TEXT", help="Show how this text is cut into tokens instead.")
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="OTHER",
        help="Show instead how far each layer's weights lie from this model's.",
        autocompletion=completion.encoder,
    ),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", metavar="N", min=4, help="With --tokens: instead of the model's own.")
]
Revision = Annotated[
    str | None, typer.Option("--revision", metavar="NAME", help="Branch, tag or commit of a hub name.")
]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("inspect", inspect, epilog=_EPILOG)


def inspect(
    model: Target,
    tokens: Tokens = None,
    against: Against = None,
    max_length: MaxLength = None,
    revision: Revision = None,
    registry: registered.RegistryUri = None,
    json_: running.AsJson = False,
) -> None:
    """Look into a model or encoder.

    Without flags: every stored tensor with its shape, parameters and type, and whether it was trained. With --tokens:
    the tokens and ids of a text, unknown ones marked, and which are kept at the maximum length. With --against: the
    sum of absolute changes and the relative norm |a - b| / |b| per layer and tensor.
    """
    from headstart.models.inspecting import find, pieces, tensors
    from headstart.registry import place_of

    found = find(place_of(model, registry=registry), revision)
    record: dict[str, Any] = found.about()
    if tokens is not None:
        made, limit = pieces(found, tokens, max_length)
        record |= {"max_length": limit, "tokens": [asdict(piece) for piece in made]}
        shown = [lambda: _show_tokens(made, limit)]
    else:
        stored = tensors(found)
        record |= {"tensors": [{**asdict(t), "parameters": t.parameters} for t in stored], **_totals(stored)}
        shown = [] if against is not None else [lambda: _show_tensors(found, stored)]
    if against is not None:
        from headstart.models.movement import movement

        moved = movement(found, find(place_of(against, registry=registry)))
        record["against"] = {"name": against, **_moved_json(moved)}
        shown.append(lambda: _show_movement(moved, model, against))
    if json_:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    for one in shown:
        one()


def _totals(stored: Sequence[Tensor]) -> dict[str, int]:
    return {
        "parameters_total": sum(t.parameters for t in stored),
        "parameters_trainable": sum(t.parameters for t in stored if t.trained),
    }


def _show_tensors(found: Inspected, stored: Sequence[Tensor]) -> None:
    about = found.about()
    line(", ".join(str(about[key]) for key in ("name", "kind", "strategy", "architecture") if key in about))
    if "labels" in about:
        line(f"labels: {', '.join(about['labels'])}")
    if "text" in about and found.has_tokenizer:
        text = about["text"]
        line(f"reads {', '.join(text['columns'])}: at most {text['max_length']} tokens, {text['truncate']} kept")
    rows = [
        [t.name, " x ".join(map(str, t.shape)) or "1", "" if t.buffer else f"{t.parameters:,}", t.dtype, _state(t)]
        for t in stored
    ]
    show(table(["tensor", "shape", "parameters", "type", "trainable"], rows))
    totals = _totals(stored)
    line(f"{totals['parameters_total']:,} parameters, {totals['parameters_trainable']:,} trainable")


def _state(tensor: Tensor) -> str:
    return "buffer" if tensor.buffer else "yes" if tensor.trained else "no"


def _show_tokens(made: Sequence[Piece], limit: int | None) -> None:
    rows = [[at, piece.piece, piece.id if piece.id >= 0 else "", _mark(piece)] for at, piece in enumerate(made, 1)]
    show(table(["", "token", "id", ""], rows, left=2))
    unknown, kept = sum(p.unknown for p in made), sum(p.kept for p in made)
    where = "" if limit is None else f"; at a maximum length of {limit}, {kept} are kept"
    line(f"{counted(len(made), 'token', 'tokens')}, {unknown} unknown{where}")


def _mark(piece: Piece) -> str:
    marks = [word for word, on in (("special", piece.special), ("unknown", piece.unknown)) if on]
    return ", ".join([*marks, *([] if piece.kept or piece.unknown else ["cut off"])])


def _show_movement(moved: Movement, first: str, second: str) -> None:
    rows: list[list[Any]] = []
    for layer, parts in moved.layers:
        rows.append(_row(layer, layer.name))
        rows += [_row(part, f"  {part.name.removeprefix(layer.name + '.')}") for part in parts]
    rows.append(_row(moved.total, "all"))
    show(table(["layer", "values", "sum |a - b|", "|a - b| / |b|"], rows), f"a = {first}, b = {second}")
    for names, whose in ((moved.only_first, first), (moved.only_second, second)):
        if names:
            line(f"only in {whose}: {', '.join(names)}")
    for name, shape, other in moved.other_shape:
        line(f"of another shape: {name} {shape} and {other}")


def _row(moved: Moved, name: str) -> list[Any]:
    relative = "b is 0" if moved.relative is None else f"{moved.relative:.6f}"
    return [name, f"{moved.values:,}", f"{moved.changed:,.4f}", relative]


def _moved_json(moved: Movement) -> dict[str, Any]:
    return {
        "layers": [{**asdict(layer), "tensors": [asdict(part) for part in parts]} for layer, parts in moved.layers],
        "total": asdict(moved.total),
        "only_first": list(moved.only_first),
        "only_second": list(moved.only_second),
        "other_shape": [{"name": n, "first": list(a), "second": list(b)} for n, a, b in moved.other_shape],
    }
