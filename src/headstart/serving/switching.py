"""Opening models, and following a registry's alias: the next version is opened while the last one still answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.models.folder import Model
from headstart.models.predicting import blank_row
from headstart.serving.shelf import Served, Shelf, Wanted

Open = Callable[[Path], Model]
Tell = Callable[..., None]  # event, **what is known of it

_AGAIN_SECONDS = 60.0


def opened(wanted: Wanted, open_model: Open, version: str | None = None) -> Served:
    """Open a model and let it answer once, so that the first request does not pay for what is done only once.

    Args:
        wanted: the model.
        open_model: opens a folder.
        version: the version, where it was looked up already.

    Raises:
        HeadstartError: there is no such model, or it is damaged.
    """
    version = wanted.place.version() if version is None else version
    model = open_model(wanted.place.folder(version))
    model.predict_proba(blank_row(model))
    return Served(wanted.name, version, wanted.alias, model)


class Follower:
    """Keeps one alias served: looks it up, opens what it points to now, and exchanges the two in one moment.

    Requests that came before the exchange are answered by the model they came for; it is dropped with the last of
    them. A version that cannot be opened is told and tried again a minute later; an alias that cannot be looked up (it
    was taken away, say) is told once. The last good version stays.

    Args:
        wanted: what is followed.
        served: what is served for it now.
        shelf: where it is exchanged.
        open_model: opens a folder.
        tell: told of every exchange and failure.
        poll_seconds: between two looks.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        wanted: Wanted,
        served: Served,
        shelf: Shelf,
        open_model: Open,
        *,
        tell: Tell,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wanted, self.served, self.shelf = wanted, served, shelf
        self._open, self._tell = open_model, tell
        self._poll_seconds, self._clock = poll_seconds, clock
        self._failed: tuple[str, float] | None = None  # a version, and when
        self._lost = False  # whether it could not be looked up last time

    async def follow(self) -> None:
        """Look again and again; ends when cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.look()

    async def look(self) -> bool:
        """Look once; return whether the model was exchanged."""
        version = ""
        try:
            version = await asyncio.to_thread(self.wanted.place.version)
            self._lost = False
            if version == self.served.version or self._failed_lately(version):
                return False
            began = self._clock()
            new = await asyncio.to_thread(opened, self.wanted, self._open, version)
        except Exception as problem:  # whatever a registry or a folder may hold: serving goes on
            if version:
                self._failed = (version, self._clock())
            if version or not self._lost:
                self._about("switch_failed", version, problem=type(problem).__name__, reason=str(problem))
            self._lost = not version
            return False
        old, self.served, self._failed = self.served.version, new, None
        self.shelf.replace(next(s for s in self.shelf if s.version == old and self._is_mine(s)), new)
        self._about("switched", version, before=old, seconds=round(self._clock() - began, 3))
        return True

    def _is_mine(self, served: Served) -> bool:
        return (served.name, served.alias) == (self.wanted.name, self.wanted.alias)

    def _failed_lately(self, version: str) -> bool:
        if self._failed is None or self._failed[0] != version:
            return False
        return self._clock() - self._failed[1] < _AGAIN_SECONDS

    def _about(self, event: str, version: str, **more: Any) -> None:
        self._tell(event, model=self.wanted.name, alias=self.wanted.alias, version=version, **more)


@contextlib.asynccontextmanager
async def following(followers: list[Follower]) -> Any:
    """Follow all aliases inside the block."""
    tasks = [asyncio.create_task(follower.follow()) for follower in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
