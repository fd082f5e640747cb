"""What workers need, imported once in the process that they are forked from (`serving.starting`)."""

from __future__ import annotations

from headstart.serving.starting import without_collecting

with without_collecting():
    import headstart.models.predicting
    import headstart.serving.workers  # noqa: F401
