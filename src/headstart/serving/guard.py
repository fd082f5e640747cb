"""What is refused before a request is read: strange hosts, wrong tokens, bodies that are too large or too slow."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.serving.observing import problem
from headstart.serving.settings import ServingSettings, is_loopback

_CLOSE = {"connection": "close"}


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class Guard:
    """Lets a request through with its body read, or refuses it.

    A server on loopback without a token answers only to this machine's own names: else a web page could rebind its
    host name to 127.0.0.1 and ask in the user's browser.

    Args:
        app: what answers.
        settings: token and limits.
        open_paths: paths that need no token.
    """

    def __init__(self, app: ASGIApp, *, settings: ServingSettings, open_paths: frozenset[str]) -> None:
        self.app, self.settings, self.open_paths = app, settings, open_paths
        token = settings.token
        self._expected = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_token(headers, scope["path"])
            body = await self._body(headers, receive)
        except _RefusedError as refused:
            await problem(refused.status, refused.reason, headers=refused.headers)(scope, receive, send)
            return
        if body is not None:
            await self.app(scope, _replay(body, receive), send)

    def _check_host(self, headers: Headers) -> None:
        if self._expected is not None or not self.settings.on_loopback:
            return
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if not is_loopback(name.strip("[]")):
            raise _RefusedError(400, "this server answers to localhost and 127.0.0.1 only; a token lets others in")

    def _check_token(self, headers: Headers, path: str) -> None:
        if self._expected is None or path in self.open_paths:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._expected)
        if not right or scheme.lower() != "bearer":
            what = "wrong" if given else "missing"
            raise _RefusedError(
                401,
                f"the bearer token is {what}: send the header Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer", **_CLOSE},
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """Return the body, read no further than the limit; None if the client has gone."""
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self.settings.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                return await self._read(receive)
        except TimeoutError:
            raise _RefusedError(408, f"the body did not arrive in {self.settings.body_seconds:g} s", _CLOSE) from None

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.settings.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> _RefusedError:
        limit = self.settings.max_body_bytes
        return _RefusedError(413, f"the body is larger than {limit:,} bytes: send the texts in parts", _CLOSE)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once and then what comes after it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
