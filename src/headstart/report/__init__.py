"""Tables and sentences drawn from the record of a comparison, and from nothing else."""

from __future__ import annotations

from headstart.report.leaderboard import leaderboard
from headstart.report.render import conclusion, render_html, render_table

__all__ = ["conclusion", "leaderboard", "render_html", "render_table"]
