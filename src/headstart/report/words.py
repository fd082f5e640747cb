"""Numbers as people read them, and what a comparison comes to in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.report.leaderboard import Record, cell, deciding

UNKNOWN = "–"  # noqa: RUF001  # a dash, not a minus
BASELINE = "tfidf"


def plain(text: Any) -> str:
    """Return text without control characters, which could move the cursor or recolor a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def decimals(value: float | None, places: int = 3) -> str:
    """Return ``0.866``, or a dash for None."""
    return UNKNOWN if value is None else f"{value:.{places}f}"


def interval(low: float | None, high: float | None) -> str:
    """Return ``[0.851, 0.881]``, or nothing where it is not known."""
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def seconds(value: float | None) -> str:
    """Return ``0.52s``, ``41s``, ``6m12s`` or ``2h05m``."""
    if value is None:
        return UNKNOWN
    if value < 9.95:
        return f"{value:.2f}s" if value < 0.995 else f"{value:.1f}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def count(value: float | None) -> str:
    """Return ``0``, ``950``, ``9.5k``, ``295k``, ``22.7M`` or ``1.1G``; decimal prefixes, three digits."""
    if value is None:
        return UNKNOWN
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or prefix == "T":
            break
        value /= 1000
    exact = prefix == "" and float(value).is_integer()
    return f"{value:.0f}{prefix}" if exact or abs(value) >= 99.5 else f"{value:.1f}{prefix}"


def size(value: float | None) -> str:
    """Return bytes as ``950kB``, ``91MB`` or ``1.2GB``; decimal prefixes, two or three digits."""
    if value is None:
        return UNKNOWN
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            break
        value /= 1000
    return f"{value:.1f}{prefix}B" if prefix and value < 9.95 else f"{value:.0f}{prefix}B"


def listed(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    names = [plain(name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def conclusion(record: Record) -> str:
    """Say who won and by how much, who cannot be told from it, and whether TF-IDF is beaten.

    ``differences`` in the record is winner minus the named strategy, in the deciding metric, on the holdout.
    """
    winner = by_name(record).get(record.get("winner"))
    if winner is None:
        return "There is no winner: no strategy could be fitted; the reasons are in the table."
    said = [_who_won(record, winner), _ties(record), _overtaken(record), _baseline(record)]
    return " ".join(sentence for sentence in said if sentence)


def stage_lines(record: Record) -> list[str]:
    """Return one sentence per stage of a strategy: what it changed, and whether that may be chance."""
    return [line for gain in record.get("stages") or () if (line := _stage_line(record, gain))]


def _stage_line(record: Record, gain: Record) -> str:
    value, low, high = gain.get("value"), gain.get("low"), gain.get("high")
    if value is None or low is None or high is None:
        return ""
    better = deciding(record).higher_is_better
    helped, hurt = (low > 0, high < 0) if better else (high < 0, low > 0)
    word = "helped" if helped else "hurt" if hurt else "may have changed nothing"
    difference = f"{_title(record)} {value:+.3f} (95% interval {low:+.3f} to {high:+.3f})"
    names = [plain(gain.get(key)) for key in ("stage", "strategy", "without")]
    return f"{names[0]} {word}: {names[1]} minus {names[2]}: {difference}"


def by_name(record: Record) -> dict[Any, Record]:
    """Return the record's strategies by name."""
    return {strategy.get("name"): strategy for strategy in record.get("strategies", ())}


def ties(record: Record) -> list[str]:
    """Return the strategies that the holdout cannot tell from the winner."""
    return [name for name in record.get("ties") or () if name != record.get("winner")]


def _who_won(record: Record, winner: Record) -> str:
    value, low, high = cell(winner, deciding(record).name)
    sure = f" (95% interval {decimals(low)} to {decimals(high)})" if low is not None else ""
    return f"{plain(winner['name'])} wins: {_title(record)} {decimals(value)} on the holdout{sure}."


def _title(record: Record) -> str:
    title = deciding(record).title
    return title if title.startswith("ROC") else title[0].lower() + title[1:]


def _ties(record: Record) -> str:
    names = [name for name in ties(record) if name != BASELINE]
    return f"The holdout cannot tell it from {listed(names)}." if names else ""


def _gain(record: Record, name: str) -> tuple[float, float, float] | None:
    """Return by how much the winner is better than ``name``, with its interval; above 0 is better."""
    found = (record.get("differences") or {}).get(name) or {}
    value, low, high = found.get("value"), found.get("low"), found.get("high")
    if value is None or low is None or high is None:
        return None
    return (value, low, high) if deciding(record).higher_is_better else (-value, -high, -low)


def _overtaken(record: Record) -> str:
    gains = {name: _gain(record, name) for name in by_name(record) if name not in (record.get("winner"), BASELINE)}
    names = [name for name, gain in gains.items() if gain is not None and gain[2] < 0]
    if not names:
        return ""
    return f"On the holdout {listed(names)} did better beyond chance, but validation chooses, not the holdout."


def _baseline(record: Record) -> str:
    baseline = by_name(record).get(BASELINE)
    if baseline is None or baseline.get("status") != "ok":
        return ""
    if record.get("winner") == BASELINE:
        return f"{BASELINE} is not beaten: nothing did better on validation."
    gain = _gain(record, BASELINE)
    if gain is None:
        return f"{BASELINE} is not beaten: the holdout cannot tell the two apart." if BASELINE in ties(record) else ""
    value, (low, high) = gain[0], gain[1:]
    sure = f"(95% interval {low:.3f} to {high:.3f})"
    if low > 0:
        return f"It beats {BASELINE} by {value:.3f} {sure}."
    if high < 0:
        return f"{BASELINE} is not beaten: the winner's lead over it on the holdout is {value:.3f} {sure}."
    return f"{BASELINE} is not beaten: a lead of {value:.3f} {sure} may be chance."
