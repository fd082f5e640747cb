"""What the shell offers when a name is half typed. Nothing here imports torch: completion must not be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headstart.catalog import ENCODERS

Completer = Callable[[str], list[str]]

# Kept here and not read from the table of strategies, whose import takes seconds; a test compares.
STRATEGIES = (
    "majority", "tfidf", "scratch-gru", "scratch-transformer", "as-is", "linear-probe", "boosted", "partial",
    "gradual", "full", "lora", "contrastive", "source+linear-probe", "source+boosted", "source+partial",
    "source+gradual", "source+full", "source+lora", "source+contrastive", "adapt+linear-probe", "adapt+boosted",
    "adapt+partial", "adapt+gradual", "adapt+full", "adapt+lora", "adapt+contrastive",
)  # fmt: skip
TASKS = (
    "sentiment", "zero-shot", "ner", "fill-mask", "features", "question", "generate", "summarize", "translate",
)  # fmt: skip
METRICS = ("accuracy", "macro_f1", "roc_auc", "log_loss", "matthews")
TRUNCATIONS = ("head", "tail", "head-tail")
MASKINGS = ("token", "whole-word", "span")
PRECISIONS = ("auto", "float32", "bfloat16")
MENDINGS = ("all", "drop-empty", "drop-duplicates", "drop-conflicts", "merge-labels", "drop-overlap", "drop-rare")


def _one_of(names: Iterable[str]) -> Completer:
    known = list(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


def _several_of(names: Iterable[str]) -> Completer:
    """Complete the last name of ``a,b,c``; names already there are not offered again."""
    known = list(names)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in taken]

    return complete


strategy = _one_of(STRATEGIES)
task = _one_of(TASKS)
masking = _one_of(MASKINGS)
encoder = _one_of([*ENCODERS, "gru"])
model = _one_of(ENCODERS)
FOR_SETTINGS: dict[str, Completer] = {
    "strategies": _several_of(STRATEGIES),
    "encoder": encoder,
    "metric": _one_of(METRICS),
    "truncate": _one_of(TRUNCATIONS),
    "precision": _one_of(PRECISIONS),
    "class_weights": _one_of(("none", "balanced")),
    "device": _one_of(("auto", "cpu", "cuda")),
    "mend": _several_of(MENDINGS),
}
