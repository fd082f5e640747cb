"""Requests per second and latency: ours, `mlflow models serve`, and a plain FastAPI handler around a pipeline.

One model of MiniLM's size, critics' sentences about films one per request, 32 connections of wrk for 60 seconds each,
one server after the other in one run; ours once more with the model's int8 export. The plain handler is measured as
`def` (a thread per request) and as `async def`; the better of the two is what ours is compared with. Then ours follows
an alias of a registry that is moved back and forth under the same load: no answer may be other than 200 and no
connection may break.

    python benchmarks/serve_load.py --json benchmarks/results/serve_load.json
    python benchmarks/serve_load.py --seconds 5 --switches 2
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Claim, finish, new_parser
from servers import Server, free_port, get, headstart_words, labeled, minilm_model, serving, texts, wait_until

CONNECTIONS = 32
TIMES_PLAIN = 4.0
SWITCHES = 20
POLL_SECONDS = 0.5
_WARM_SECONDS = 3
_TEXTS = 2000
_PLAIN = """
import sys
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline
import uvicorn

classify = pipeline("text-classification", model=sys.argv[1], top_k=None)
app = FastAPI()

class Ask(BaseModel):
    texts: str

@app.get("/ready")
def ready():
    return {}

@app.post("/predict")
DEF predict(ask: Ask):
    return classify(ask.texts)

uvicorn.run(app, port=int(sys.argv[2]), access_log=False)
"""
# Each thread of wrk goes through the bodies in turn; what is printed at the end is read as JSON.
_LUA = """
local bodies = {}
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
local i = 0
request = function()
  i = i % #bodies + 1
  return wrk.format("POST", "PATH", {["content-type"] = "application/json"}, bodies[i])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'FOUND {"requests": %d, "seconds": %.3f, "p50_ms": %.2f, "p99_ms": %.2f, "not_200": %d, "broken": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""
Found = dict[str, float]


def main() -> int:
    parser = new_parser(__doc__, out="serve_load")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="per server (%(default)s)")
    parser.add_argument("--switches", type=int, default=SWITCHES, metavar="N", help="of the alias (%(default)s)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk (apt-get install wrk)")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    load = Load(out, options.seconds, options.threads)
    model = minilm_model(out / "model")
    found = {
        "headstart": load.measure("headstart", ours(model, load)),
        "headstart int8": load.measure("headstart int8", ours(quantized(out, model), load)),
        "plain def": load.measure("plain def", plain(out, model, "def")),
        "plain async def": load.measure("plain async def", plain(out, model, "async def")),
        "mlflow": load.measure("mlflow", mlflow(out, model), path="/invocations", ready="/ping"),
    }
    for name, one in found.items():
        print(f"{name}: {one['rate']:.0f} requests/s, p50 {one['p50_ms']:.0f} ms, p99 {one['p99_ms']:.0f} ms")
    switched = load.switched(model, minilm_model(out / "other", seed=1), options.switches)
    return finish("serve_load", options, claims_of(found, switched, options.switches), {**found, "switched": switched})


def claims_of(found: dict[str, Found], switched: Found, switches: int) -> list[Claim]:
    """Return what is claimed of the figures of each server."""
    one = found["headstart"]
    best = max((found["plain def"], found["plain async def"]), key=lambda f: f["rate"])
    lost = int(sum(f["not_200"] + f["broken"] for f in (one, switched)))
    asked = int(min(f["requests"] for f in (one, switched)))
    return [
        *against_plain("headstart", one, best),
        *against_plain("its int8 export", found["headstart int8"], best),
        Claim("the alias moved under load", f">= {switches}", f"{switched['switches']:.0f}",
              switched["switches"] >= switches),
        Claim("answers other than 200 and broken connections, alias moved or not", "0 of > 0",
              f"{lost} of {asked}", lost == 0 < asked),
    ]  # fmt: skip


def against_plain(name: str, one: Found, best: Found) -> list[Claim]:
    """Return what is claimed of one of our servers against the better plain handler."""
    times = one["rate"] / best["rate"]
    return [
        Claim(f"{name}: requests per second, times a plain handler's", f">= {TIMES_PLAIN:g}", f"{times:.2f}",
              times >= TIMES_PLAIN),
        Claim(f"{name}: p99 below the plain handler's p50, in ms", f"< {best['p50_ms']:.0f}", f"{one['p99_ms']:.0f}",
              one["p99_ms"] < best["p50_ms"]),
    ]  # fmt: skip


class Load:
    """One kind of load, for one server after the other.

    Args:
        out: folder for scripts and logs.
        seconds: of each measurement.
        threads: of each server, or None.
    """

    def __init__(self, out: Path, seconds: int, threads: int | None) -> None:
        self.out, self.seconds, self.threads = out, seconds, threads

    def measure(
        self, name: str, words: Callable[[int], list[str]], *, path: str = "/predict", ready: str = "/ready"
    ) -> Found:
        """Start a server, warm it up, and return what wrk finds."""
        port, environment = free_port(), {} if self.threads is None else {"OMP_NUM_THREADS": str(self.threads)}
        log = self.out / f"{name.replace(' ', '_')}.log"
        with serving(words(port), port, log=log, ready=ready, environment=environment) as server:
            self.wrk(server, path, _WARM_SECONDS)
            return self.wrk(server, path, self.seconds)

    def wrk(self, server: Server, path: str, seconds: int) -> Found:
        """Return requests per second, latency in milliseconds and losses under load."""
        bodies = self.out / "bodies.jsonl"
        key = {"/invocations": lambda t: {"dataframe_records": [{"text": t}]}}.get(path, lambda t: {"texts": t})
        bodies.write_text("\n".join(json.dumps(key(text)) for text in texts(_TEXTS)) + "\n", encoding="utf-8")
        script = self.out / "load.lua"
        script.write_text(_LUA.replace("BODIES", str(bodies)).replace("PATH", path), encoding="utf-8")
        words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), server.url]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
        found: Found = json.loads(line.removeprefix("FOUND "))
        return {**found, "rate": round(found["requests"] / found["seconds"], 1)}

    def switched(self, one: Path, other: Path, switches: int) -> Found:
        """Return what wrk finds while an alias is moved between two models, and how often it was."""
        from headstart.registry.registering import register
        from headstart.registry.store import Registry

        uri = f"sqlite:///{(self.out / 'registry.db').resolve()}"
        registry = Registry.open(uri)
        versions = [register(registry, str(model), "load").number for model in (one, other)]
        registry.point("load", "champion", versions[0])
        port = free_port()
        words = headstart_words("models:/load@champion", "--port", port, "--poll-seconds", POLL_SECONDS)
        environment = {"MLFLOW_TRACKING_URI": uri}
        with serving(words, port, log=self.out / "switched.log", environment=environment) as server:
            ended = threading.Event()
            mover = threading.Thread(target=move, args=(registry, versions, server, switches, ended))
            mover.start()
            rounds = []
            while not rounds or mover.is_alive():
                rounds.append(self.wrk(server, "/predict", self.seconds))
            ended.set()
            mover.join()
            count = switches_of(server)
        lost = {key: sum(found[key] for found in rounds) for key in ("requests", "not_200", "broken")}
        return {**rounds[0], **lost, "switches": count}


def move(registry: Any, versions: list[int], server: Server, switches: int, ended: threading.Event) -> None:
    """Move the alias back and forth, each time when the server has followed."""
    for turn in range(switches):
        registry.point("load", "champion", versions[(turn + 1) % 2])
        wait_until(lambda turn=turn: ended.is_set() or switches_of(server) > turn, server)


def switches_of(server: Server) -> int:
    """Return how often a server exchanged its model."""
    page = get(f"{server.url}/metrics") or ""
    found = re.search(r'^headstart_switches_total\{model="load",result="done"\} (\S+)$', page, re.MULTILINE)
    return 0 if found is None else int(float(found.group(1)))


def ours(model: Path, load: Load) -> Callable[[int], list[str]]:
    """Return the command line of our server."""
    more = [] if load.threads is None else ["--threads", load.threads]
    return lambda port: headstart_words(model, "--port", port, *more)


def quantized(out: Path, model: Path) -> Path:
    """Return the int8 export of a model, made where it is not there yet."""
    from headstart.models.exporting import export_model

    folder = out / "model_int8"
    if not folder.is_dir():
        export_model(model, folder, int8=True, examples=labeled(400), force=True)
    return folder


def plain(out: Path, model: Path, how: str) -> Callable[[int], list[str]]:
    """Return the command line of a plain handler, which is written beside the logs."""
    script = out / f"plain_{how.replace(' ', '_')}.py"
    script.write_text(_PLAIN.replace("DEF", how), encoding="utf-8")
    return lambda port: [sys.executable, str(script), str(model), str(port)]


def mlflow(out: Path, model: Path) -> Callable[[int], list[str]]:
    """Return the command line of MLflow's server, for the model as MLflow has it."""
    from headstart.registry.packaging import write_mlflow_model

    packaged = out / "mlflow_model"
    if not packaged.is_dir():
        write_mlflow_model(model, packaged)
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(packaged), "--env-manager", "local"]
    return lambda port: [*words, "--port", str(port)]


if __name__ == "__main__":
    sys.exit(main())
