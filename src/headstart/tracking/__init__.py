"""Where runs are written down for other people: MLflow when it is installed, nothing otherwise."""

from __future__ import annotations

from headstart.tracking.base import FitLog, NullTracker, Tracker, open_tracker, output_columns

__all__ = ["FitLog", "NullTracker", "Tracker", "open_tracker", "output_columns"]
