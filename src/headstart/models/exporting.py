"""Exporting a classifier to ONNX: checked against torch before it counts, its losses and gains measured."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.examples import Examples
from headstart.errors import ConfigError, ModelError
from headstart.models import folder as model_folder
from headstart.models.classifier import Classifier
from headstart.models.folder import Model
from headstart.models.identity import runtime_of
from headstart.models.onnx_classifier import GRAPH, OnnxClassifier
from headstart.models.onnx_graph import EXPORTERS, graph_module, import_onnx, quantized, write_graph
from headstart.models.predicting import weights_fingerprint
from headstart.models.runtime import Runtime
from headstart.records import hardware, versions, whole_folder, write_json

REPORT = "export.json"
# float32 on both sides: only the order of sums differs.
_SAME_PROBABILITIES = 1e-4
_MOST_POINTS_LOST = 0.5
_LEAST_ALIKE = 0.995
_BATCHES_FASTER = 1.2
_SINGLE_FASTER = 2.0
_SINGLE_TEXTS = 15
_TIMED_TEXTS = 500
_ROUNDS = 3
_CALIBRATED = 400
# What a graph is checked on where no texts are given: short and long, several scripts, nothing at all.
_TEXTS = (
    "A warm and funny film.",
    "Two hours I will not get back: the plot is thin, the jokes are old and nobody seems to care!",
    "Das Zimmer war sauber, das Personal freundlich, aber die Straße vor dem Fenster war die ganze Nacht laut.",
    "O produto chegou antes do prazo e funciona muito bem.",
    "この映画はとても面白かった。",
    "Отличный отель, приедем ещё раз.",
    "ok",
    "",
    "The quarterly report beat expectations, " * 12,
)


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        folder: where it lies.
        report: the content of ``export.json``.
    """

    folder: Path
    report: dict[str, Any]


def export_model(
    source: str | Path,
    out: str | Path,
    *,
    int8: bool = False,
    examples: Examples | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a model as an ONNX graph with tokenizer and cards; the folder is a model folder of kind ``onnx``.

    Args:
        source: model folder of a fine-tuned network, a linear head on frozen features or the GRU.
        out: folder to write; replaced if it is an export.
        int8: quantize the products; the texts decide how.
        examples: real texts to check and measure on, with labels where accuracy shall be compared; without texts the
            graph is checked on a few built-in ones, and nothing is timed.
        force: write int8 also where it loses more than 0.5 points of accuracy (without labels: gives another label to
            more than 0.5% of the texts) or is not faster.
        tell: told what is being done.

    Raises:
        ModelError: the model is of a kind that cannot be exported, the graph does not give torch's probabilities, or
            int8 is not worth it.
        ConfigError: int8 without texts, or ``out`` is another model.
        MissingExtraError: ONNX is not installed.
    """
    import_onnx("exporting a model")
    if int8 and (examples is None or not len(examples)):
        raise ConfigError("int8 needs real texts to be calibrated and measured on: give some with --data")
    path, target = Path(source).expanduser(), Path(out).expanduser()
    _check_target(path, target)
    model = model_folder.load(path, runtime=Runtime())
    texts = Examples.of(_TEXTS) if examples is None else examples
    with whole_folder(target) as temporary:
        tell("writing the graph")
        made = _float_graph(model, texts, temporary)
        report = {"precision": "float32", **made}
        if int8:
            tell("quantizing and measuring")
            report = {**made, **_quantize(model, texts, temporary, path, force=force), "precision": "int8"}
        else:
            opened = _opened(model, temporary / GRAPH)
            report["accuracy"] = _accuracies(model, opened, texts)
            report["speed"] = None if examples is None else _against_torch(path, opened, texts)
        for file in temporary.glob("*.onnx"):
            if file.name != GRAPH:
                file.unlink()
        report |= {
            "texts": "built-in" if examples is None else "given",
            "bytes": (temporary / GRAPH).stat().st_size,
            "source": {"folder": str(path), "weights": weights_fingerprint(path)},
            "machine": hardware(),
            "versions": versions(),
        }
        _write_folder(model, temporary, report)
    return Exported(target, report)


def _check_target(source: Path, target: Path) -> None:
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / REPORT).is_file())):
        raise ConfigError(f"--out {target} is there already and is no export; name another folder")
    if target.resolve() == source.resolve():
        raise ConfigError(f"--out {target} is the model itself; name another folder")


def _float_graph(model: Model, texts: Examples, folder: Path) -> dict[str, Any]:
    """Write ``model.onnx`` in float32 by the first way whose graph gives torch's probabilities."""
    module = graph_module(model.classifier)
    few = texts.take(np.arange(min(len(texts), _CALIBRATED)))
    expected = model.classifier.predict_proba(few)
    faults = []
    for exporter in EXPORTERS:
        graph = folder / GRAPH
        try:
            write_graph(module, model.classifier, graph, exporter=exporter)
            difference = _difference(_opened(model, graph), few, expected)
        except ModelError as problem:
            faults.append(str(problem))
            continue
        if difference <= _SAME_PROBABILITIES:
            return {"exporter": exporter, "texts_compared": len(few), "largest_difference": difference}
        faults.append(f"the graph of '{exporter}' differs from torch by {difference:.2g} in probability")
    raise ModelError("the model cannot be exported: " + "; ".join(faults))


def _opened(model: Model, graph: Path) -> OnnxClassifier:
    holder: Any = getattr(model.classifier, "extractor", model.classifier)
    return OnnxClassifier(graph, holder.tokenizer, model.labels, holder.text)


def _difference(one: Classifier, examples: Examples, expected: Any) -> float:
    """Return the largest difference in probability; texts also go one by one, as another shape of batch."""
    found = [one.predict_proba(examples)]
    found += [one.predict_proba(examples.take([i])) for i in range(min(len(examples), _SINGLE_TEXTS))]
    singles = np.concatenate(found[1:]) if len(found) > 1 else found[0][:0]
    largest = max(np.abs(found[0] - expected).max(initial=0), np.abs(singles - expected[: len(singles)]).max(initial=0))
    return float(largest)


def _quantize(model: Model, texts: Examples, folder: Path, source: Path, *, force: bool) -> dict[str, Any]:
    """Put the better int8 graph in the float one's place: narrowing products in int8, or in float32."""
    few = texts.take(np.arange(min(len(texts), _CALIBRATED)))
    expected = model.classifier.predict_proba(few)
    tried: list[dict[str, Any]] = []
    for name, narrowing in (("narrowing-int8", True), ("narrowing-float32", False)):
        graph = folder / f"{name}.onnx"
        try:
            quantized(folder / GRAPH, graph, narrowing=narrowing)
            one = _opened(model, graph)
            difference = _difference(one, few, expected)
        except Exception as problem:  # the quantizer knows not every graph, and its errors have no common base
            tried.append({"graph": name, "problem": str(problem).splitlines()[0][:200]})
            continue
        agree = float((one.predict_proba(few).argmax(axis=1) == expected.argmax(axis=1)).mean())
        tried.append({"graph": name, "largest_difference": difference, "same_label": agree})
    good = [row for row in tried if "same_label" in row]
    if not good:
        raise ModelError(f"int8 was not written: {'; '.join(row['problem'] for row in tried)}")
    best = _calibrated(model, few, folder, good)
    speed = _against_torch(source, best[1], texts)
    # Texts that chose the graph say too much good of it; where there are as many others, those judge.
    others = texts.take(np.arange(len(few), len(texts))) if len(texts) >= 2 * len(few) else texts
    accuracy = _accuracies(model, best[1], others)
    alike = best[0]["same_label"] if accuracy is not None else _share_alike(model, best[1], others)
    faults = _faults(accuracy, speed, same_label=alike)
    if faults and not force:
        raise ModelError(f"int8 was not written: {'; '.join(faults)}. --force writes it all the same")
    shutil.copyfile(folder / f"{best[0]['graph']}.onnx", folder / GRAPH)
    return {
        **best[0],
        "same_label": alike,
        "texts_compared": len(few),
        "calibration": {"texts": len(few), "tried": tried},
        "accuracy": accuracy,
        "speed": speed,
        "forced": bool(faults),
        "faults": faults,
    }


def _calibrated(
    model: Model, few: Examples, folder: Path, good: Sequence[dict[str, Any]]
) -> tuple[Any, OnnxClassifier]:
    """Return, of the graphs that keep the most labels (to half a point), the one that is fastest on the texts."""
    most = max(row["same_label"] for row in good)
    kept = [row for row in good if row["same_label"] >= most - _MOST_POINTS_LOST / 100]
    opened = [(row, _opened(model, folder / f"{row['graph']}.onnx")) for row in kept]
    # In turn, the least of several, without the first: a graph begins slowly, and others use the machine.
    rounds = [[_seconds(one, few) for _, one in opened] for _ in range(1 + _ROUNDS)][1:]
    return opened[int(np.min(rounds, axis=0).argmin())]


def _against_torch(source: Path, onnx_one: Classifier, texts: Examples) -> dict[str, Any]:
    """Time a graph against torch in the precision that torch chooses on this machine."""
    torch_model = model_folder.load(source, precision="auto", device="cpu")
    runtime = runtime_of(torch_model)
    precision = None if runtime is None else runtime.precision
    return {"torch_precision": precision, **speeds(torch_model.classifier, onnx_one, texts)}


def _seconds(classifier: Classifier, examples: Examples) -> float:
    start = time.perf_counter()
    classifier.predict_proba(examples)
    return time.perf_counter() - start


def speeds(torch_one: Classifier, onnx_one: Classifier, texts: Examples) -> dict[str, Any]:
    """Time both in turn: texts per second in batches, and milliseconds for one text alone; medians."""
    batch = texts.take(np.arange(min(len(texts), _TIMED_TEXTS)))
    singles = [texts.take([i]) for i in range(min(len(texts), _SINGLE_TEXTS))]
    both = {"torch": torch_one, "onnx": onnx_one}
    for one in both.values():
        one.predict_proba(batch.take(np.arange(min(len(batch), 32))))
    rates: dict[str, list[float]] = {name: [] for name in both}
    waits: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(_ROUNDS):
        for name, one in both.items():
            rates[name].append(len(batch) / _seconds(one, batch))
            waits[name] += [1000 * _seconds(one, single) for single in singles]
    rate = {name: statistics.median(values) for name, values in rates.items()}
    wait = {name: statistics.median(values) for name, values in waits.items()}
    return {
        "texts_per_second": {name: round(value, 1) for name, value in rate.items()},
        "single_text_ms": {name: round(value, 3) for name, value in wait.items()},
        "batches_ratio": round(rate["onnx"] / rate["torch"], 3),
        "single_ratio": round(wait["torch"] / wait["onnx"], 3),
        "texts": len(batch),
    }


def _accuracies(model: Model, onnx_one: Classifier, texts: Examples) -> dict[str, Any] | None:
    """Return the share of right labels of both (fractions 0-1) and the points lost; None without labels."""
    labeled = texts.take(np.flatnonzero(texts.y >= 0))
    if not len(labeled):
        return None
    found = {
        name: float((one.predict_proba(labeled).argmax(axis=1) == labeled.y).mean())
        for name, one in (("torch", model.classifier), ("onnx", onnx_one))
    }
    return {**found, "points_lost": round(100 * (found["torch"] - found["onnx"]), 3), "texts": len(labeled)}


def _share_alike(model: Model, onnx_one: Classifier, texts: Examples) -> float:
    """Return the share of texts (fraction 0-1) to which both give the same label."""
    both = (one.predict_proba(texts).argmax(axis=1) for one in (model.classifier, onnx_one))
    return float(np.equal(*both).mean())


def _faults(accuracy: dict[str, Any] | None, speed: dict[str, Any], *, same_label: float = 1.0) -> list[str]:
    """Return what is wrong with an int8 graph; where no label is known, another answer counts as a wrong one."""
    faults = []
    if accuracy is not None and accuracy["points_lost"] > _MOST_POINTS_LOST:
        faults.append(f"it loses {accuracy['points_lost']:.2f} points of accuracy (at most {_MOST_POINTS_LOST})")
    if accuracy is None and same_label < _LEAST_ALIKE:
        faults.append(
            f"it gives {same_label:.1%} of the texts the label that torch gives (at least {_LEAST_ALIKE:.1%}; with "
            "--label the accuracy decides)"
        )
    if speed["batches_ratio"] < _BATCHES_FASTER:
        faults.append(
            f"in batches it is {speed['batches_ratio']:.2f} times as fast as torch (at least {_BATCHES_FASTER})"
        )
    if speed["single_ratio"] < _SINGLE_FASTER:
        faults.append(f"one text takes 1/{speed['single_ratio']:.2f} of torch's time (at most 1/{_SINGLE_FASTER:g})")
    return faults


def _write_folder(model: Model, folder: Path, report: dict[str, Any]) -> None:
    """Write tokenizer and cards beside the graph."""
    holder: Any = getattr(model.classifier, "extractor", model.classifier)
    network = holder.body if hasattr(holder, "body") else holder.model
    network.config.save_pretrained(str(folder))
    holder.tokenizer.model_max_length = holder.text.max_length
    holder.tokenizer.save_pretrained(str(folder))
    card = {**model.card, "kind": OnnxClassifier.kind, "about": {"graph": GRAPH, "precision": report["precision"]}}
    if report["precision"] != "float32":
        card.pop("metrics", None)  # they were measured with other weights; what these score is in the report
    write_json(folder / model_folder.CARD, card)
    write_json(folder / REPORT, report)
