"""20,000 requests that nobody should send: no 5xx but 503 when full, no crash, level memory.

Up to a quarter is made up by schemathesis from the server's own OpenAPI description, for every path, valid and invalid
(of paths that take nothing there are few); the rest are bodies mutated from valid ones: bytes flipped, cut, doubled,
deep nesting, huge numbers, lone surrogates, NUL, long texts, wrong types, chunked bodies that never say how long they
are, broken HTTP. Sixteen clients send at once to a server with a short queue. The server's processes must be the same
at the end as at the beginning: one that crashed would have been started again. Memory is that of all of them; the last
quarter of the samples is compared with the second.

    python benchmarks/serve_fuzz.py --json benchmarks/results/serve_fuzz.json
    python benchmarks/serve_fuzz.py --requests 500
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from common import Claim, finish, new_parser
from servers import Server, free_port, headstart_words, minilm_model, post, serving, texts

CLIENTS = 16
MADE_UP_SHARE = 0.25
RAW_SHARE = 0.02
GROWTH = 1.05
SECONDS = 60.0
_TYPES = (
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
    "x",
)
_ODD: tuple[Any, ...] = (
    None, True, -1, 1e308, float("nan"), float("-inf"), 10**30, "", "\x00", "\ud800", "\U0010ffff", "e\u0301" * 2000,
    [], {}, [[]], [None], {"text": {}}, {"text": float("nan")}, {"text": None}, {"": ""}, "x" * 99_999, ["a"] * 1000,
    ["a"] * 1001, "\u202e" * 50, "🏳️‍🌈" * 500,
)  # fmt: skip
_BROKEN = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -5\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{",
    b"GET /\x00\xff HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


def main() -> int:
    parser = new_parser(__doc__, out="serve_fuzz")
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the requests (%(default)s)")
    options = parser.parse_args()
    model, port = minilm_model(Path(options.out) / "model"), free_port()
    words = headstart_words(model, "--port", port, "--max-texts", 1000, "--max-waiting", 1000, "--precision", "float32")
    if options.threads is not None:
        words += ["--threads", str(options.threads)]
    with serving(words, port, log=Path(options.out) / "server.log") as server:
        before, pids = ask(server), server.pids()
        statuses, memory = fuzz(server, options.requests, options.seed, quiet=options.quiet)
        after = ask(server)
        alive = bool(pids) and server.pids() == pids
    same = before is not None and before == after
    claims = claims_of(statuses, memory, options.requests, alive=alive, same=same)
    shown = {str(k): v for k, v in sorted(statuses.items(), key=lambda item: str(item[0]))}
    megabytes = [round(m / 2**20, 1) for m in memory]
    return finish("serve_fuzz", options, claims, {"statuses": shown, "memory_mib": megabytes})


def claims_of(statuses: Counter[Any], memory: list[int], count: int, *, alive: bool, same: bool) -> list[Claim]:
    """Return what is claimed of the statuses and the samples of memory."""
    bad = sum(n for status, n in statuses.items() if isinstance(status, int) and status >= 500 and status != 503)
    quarter = max(1, len(memory) // 4)
    early, late = (statistics.median(memory[i * quarter : (i + 1) * quarter] or memory) for i in (1, 3))
    sent = statuses.total()
    return [
        Claim("requests sent", f">= {count:,}", f"{sent:,}", sent >= count),
        Claim("answers of 500 and above but 503", "0", str(bad), bad == 0),
        Claim("all its processes are those of the beginning", "yes", "yes" if alive else "no", alive),
        Claim("it labels at the end as at the beginning", "yes", "yes" if same else "no", same),
        Claim("memory, last quarter to second", f"<= {GROWTH}", f"{late / early:.3f}", late <= GROWTH * early),
    ]


def ask(server: Server) -> bytes | None:
    """Return the server's answer to a proper request."""
    return post(f"{server.url}/predict", json.dumps({"texts": "A quiet, lovely film."}).encode())


def fuzz(server: Server, count: int, seed: int, *, quiet: bool) -> tuple[Counter[Any], list[int]]:
    """Send requests; return how often each status came, and memory in bytes, sampled evenly over the requests."""
    statuses: Counter[Any] = Counter()
    memory: list[int] = []
    lock = threading.Lock()

    def told(status: Any) -> None:
        with lock:
            statuses[status] += 1
            sent = statuses.total()
            if sent % max(1, count // 200) == 0:
                memory.append(server.memory_bytes())
            if not quiet and sent % 1000 == 0:
                print(f"{sent:,} sent, {memory[-1] / 2**20:.0f} MiB", file=sys.stderr)

    made_up = int(count * MADE_UP_SHARE)
    with ThreadPoolExecutor(CLIENTS) as pool:
        each = (count - made_up) // (CLIENTS - 1)
        jobs = [pool.submit(mutated, server.url, each, seed + i, told) for i in range(CLIENTS - 1)]
        jobs.append(pool.submit(described, server.url, made_up, told))
        for job in jobs:
            job.result()
    mutated(server.url, max(0, count - statuses.total()), seed + CLIENTS, told)  # what could not be made up
    return statuses, memory


def mutated(url: str, count: int, seed: int, told: Callable[[Any], None]) -> None:
    """Send so many mutated bodies."""
    draw = random.Random(seed)
    real = texts(200)
    with httpx.Client(timeout=SECONDS) as client:
        for _ in range(count):
            if draw.random() < RAW_SHARE:
                told(raw(url, draw.choice(_BROKEN)))
                continue
            body = body_of(draw, real)
            content: Any = pieces(body) if draw.random() < 0.1 else body
            kind = "application/json" if draw.random() < 0.9 else draw.choice(_TYPES)
            try:
                told(client.post(f"{url}/predict", content=content, headers={"content-type": kind}).status_code)
            except httpx.TransportError as problem:  # a connection closed on a body that is too large
                told(type(problem).__name__)


def body_of(draw: random.Random, real: list[str]) -> bytes:
    """Return a body: proper, with odd values, of odd shape, or with broken bytes."""
    value: Any = {"texts": draw.choice([draw.choice(real), draw.sample(real, draw.randint(0, 8))])}
    kind = draw.random()
    if kind < 0.4:
        where = draw.choice(["texts", "texts", "model", "version", "more"])
        value[where] = draw.choice(_ODD)
        if draw.random() < 0.3:
            value["texts"] = [draw.choice(_ODD) for _ in range(draw.randint(0, 5))]
    elif kind < 0.45:
        depth = draw.choice([10, 500, 5_000, 100_000])
        return draw.choice(
            [b"[" * depth, b'{"texts":' * depth, b"[" * depth + b"]" * depth, b'{"texts":"' + b"\\u0000" * depth]
        )
    elif kind < 0.46:
        return b'{"texts": "' + b"y" * draw.choice([100_001, 4 * 2**20, 5 * 2**20]) + b'"}'
    body = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    return broken(draw, body) if kind > 0.7 else body


def broken(draw: random.Random, body: bytes) -> bytes:
    """Flip, cut, double or insert bytes."""
    raw_body = bytearray(body)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(raw_body) + 1)
        change = draw.randrange(4)
        if change == 0:
            raw_body[at : at + 1] = bytes([draw.randrange(256)])
        elif change == 1:
            del raw_body[at : at + draw.randint(1, 10)]
        elif change == 2:
            raw_body[at:at] = raw_body[: draw.randint(0, 50)]
        else:
            raw_body[at:at] = draw.choice(
                [b'"', b"\\u", b"\\ud800", b"\x00", b"{", b"]", b",", b"NaN", b"1e999", b"\xff"]
            )
    return bytes(raw_body)


def pieces(body: bytes) -> Iterator[bytes]:
    """Yield a body in parts, so that it is sent without its length."""
    yield from (body[i : i + 4096] for i in range(0, len(body), 4096))


def raw(url: str, request: bytes) -> str:
    """Send bytes that are no HTTP request, and return the first line of what comes back."""
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0) as connection:
            connection.sendall(request)
            line = connection.recv(4096).partition(b"\r\n")[0].decode("latin-1")
    except OSError as problem:
        return f"raw: {type(problem).__name__}"
    parts = line.split(" ")
    status = parts[1] if len(parts) > 1 else "closed"
    return int(status) if status.isdigit() and int(status) >= 500 else f"raw: {status}"  # type: ignore[return-value]


def described(url: str, count: int, told: Callable[[Any], None]) -> None:
    """Send up to so many requests made up from the description: for every path, valid and invalid."""
    import schemathesis
    from schemathesis import GenerationMode

    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    asked = [(operation, GenerationMode.POSITIVE) for operation in operations]
    asked += [(operation, GenerationMode.NEGATIVE) for operation in operations if len(operation.body)]
    few = count // 10  # for each path that takes nothing
    rest = (count - few * sum(not len(operation.body) for operation in operations)) // 2
    for operation, mode in asked:
        send_made_up(operation, mode, rest if len(operation.body) else few, told)


def send_made_up(operation: Any, mode: Any, count: int, told: Callable[[Any], None]) -> None:
    """Send up to so many requests to one path."""
    from hypothesis import HealthCheck, given, settings

    few = settings(
        max_examples=max(1, count), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    @few
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        try:
            told(case.call(timeout=SECONDS).status_code)
        except OSError as problem:  # requests' own are OSErrors
            told(type(problem).__name__)
            time.sleep(0.01)

    send()


if __name__ == "__main__":
    sys.exit(main())
