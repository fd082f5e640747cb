"""A classifier's network as one ONNX graph: token ids and mask in, logits out, any batch and any length."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.data.examples import Examples
from headstart.errors import MissingExtraError, ModelError
from headstart.models.batching import collate
from headstart.models.features import FeatureExtractor
from headstart.models.frozen import FrozenClassifier, LinearHead
from headstart.models.gru import GruConfig
from headstart.models.network import NetworkClassifier

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 17
# A graph is traced on these: batch and length differ from each other and from one.
_TRACED = Examples.of(["one text of a few words to begin with", "another", "and a third"])


class _Logits(nn.Module):
    """A sequence classifier: ids (B, T) to logits (B, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(**dict(zip(INPUTS, given, strict=False))).logits
        return logits


class _Frozen(nn.Module):
    """A frozen encoder, the mean over real tokens, standardization and a linear head: ids (B, T) to logits (B, C)."""

    def __init__(self, extractor: FeatureExtractor, head: LinearHead) -> None:
        super().__init__()
        self.body = extractor.body
        self.layer = extractor.layer
        # Standardizing is linear, so it goes into the weights: W ((x - mean) / scale) + b.
        weights = head.weights / head.scale
        self.head = nn.Linear(weights.shape[1], weights.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weights))
            self.head.bias.copy_(torch.from_numpy(head.bias - weights @ head.mean))

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        batch = dict(zip(INPUTS, given, strict=False))
        if self.layer == -1:
            states = self.body(**batch).last_hidden_state  # (B, T, D)
        else:
            states = self.body(**batch, output_hidden_states=True).hidden_states[self.layer]
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, T, 1)
        logits: torch.Tensor = self.head((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))
        return logits


class _Gru(nn.Module):
    """The GRU without packed sequences, which ONNX has no form for: ids (B, T) to logits (B, C)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        both = network.body.gru
        self.forwards = nn.GRU(both.input_size, both.hidden_size, batch_first=True)
        self.backwards = nn.GRU(both.input_size, both.hidden_size, batch_first=True)
        stored = both.state_dict()
        self.forwards.load_state_dict({n: t for n, t in stored.items() if not n.endswith("_reverse")})
        backwards = {n.removesuffix("_reverse"): t for n, t in stored.items() if n.endswith("_reverse")}
        self.backwards.load_state_dict(backwards)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = self.network.body.embedding(ids)  # (B, T, E)
        last = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        places = torch.cumsum(torch.ones_like(mask), dim=1) - 1  # (B, T): 0, 1, 2, ...
        turned = (last - places).clamp(min=0)  # each text from its own end to its beginning
        reverse = torch.gather(vectors, 1, turned.unsqueeze(-1).expand(-1, -1, vectors.shape[2]))
        ends = [self._at(self.forwards(vectors)[0], last), self._at(self.backwards(reverse)[0], last)]
        network = self.network
        hidden = torch.relu(network.norm(network.dense(torch.cat(ends, dim=1))))  # (B, D)
        logits: torch.Tensor = network.classifier(hidden)
        return logits

    @staticmethod
    def _at(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the state of each text at one place: (B, T, H), (B, 1) -> (B, H)."""
        return torch.gather(states, 1, places.unsqueeze(-1).expand(-1, -1, states.shape[2])).squeeze(1)


def graph_module(classifier: Any) -> nn.Module:
    """Return a classifier's network as a module from ids and mask to logits.

    Raises:
        ModelError: a classifier of this kind is no network.
    """
    if isinstance(classifier, NetworkClassifier):
        network = _with_plain_attention(classifier.model)
        is_gru = classifier.model.config.model_type == GruConfig.model_type
        return (_Gru(network) if is_gru else _Logits(network)).eval()
    head = getattr(classifier, "head", None)
    if isinstance(classifier, FrozenClassifier) and isinstance(head, LinearHead):
        extractor = copy.copy(classifier.extractor)
        extractor.body = _with_plain_attention(extractor.body)
        return _Frozen(extractor, head).eval()
    reasons = {
        "tfidf": "TF-IDF is no network: it is as fast as ONNX could make it, and its folder opens without torch",
        "majority": "it gives every text the same answer",
        "frozen": "gradient-boosted trees (CatBoost) stand on its features, which do not go into the same graph; "
        "export a linear-probe in its place",
        "onnx": "it is an ONNX model already",
    }
    raise ModelError(f"a '{classifier.kind}' model cannot be exported: {reasons.get(classifier.kind, 'no network')}")


def _with_plain_attention(model: Any) -> Any:
    """Return a float32 copy whose attention is written out as products, which every ONNX runtime knows."""
    made = copy.deepcopy(model).float().cpu()
    with contextlib.suppress(AttributeError, ValueError):  # not every architecture has the choice
        made.set_attn_implementation("eager")
    return made


def _torchscript(module: nn.Module, given: tuple[torch.Tensor, ...], names: list[str], out: Path) -> None:
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    torch.onnx.export(
        module, given, str(out), input_names=names, output_names=["logits"], dynamic_axes=axes,
        opset_version=_OPSET, dynamo=False,
    )  # fmt: skip


def _dynamo(module: nn.Module, given: tuple[torch.Tensor, ...], names: list[str], out: Path) -> None:
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    torch.onnx.export(
        module, given, str(out), input_names=names, output_names=["logits"], verbose=False,
        dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),), dynamo=True, external_data=False,
    )  # fmt: skip


# In the order tried; the older exporter is ten times faster. Both write operators of the standard alone, for any
# runtime: joining attention, norms and activations beforehand into operators that only onnxruntime has gained nothing
# over what it joins itself on opening (557 against 593 texts per second in float32, 891 against 1,012 in int8).
EXPORTERS: dict[str, Callable[..., None]] = {"torchscript": _torchscript, "dynamo": _dynamo}


def write_graph(module: nn.Module, classifier: Any, out: Path, *, exporter: str) -> list[str]:
    """Trace a module and write it as ONNX; return the names of its inputs.

    Raises:
        MissingExtraError: ONNX is not installed.
        ModelError: the network cannot be traced in this way.
    """
    import_onnx("exporting")
    holder = getattr(classifier, "extractor", classifier)
    batch = collate(holder.tokenize(_TRACED), np.arange(len(_TRACED)), holder.tokenizer)
    names = [name for name in INPUTS if name in batch]
    try:
        with _quiet(), torch.no_grad():
            EXPORTERS[exporter](module, tuple(batch[name] for name in names), names, out)
    except Exception as problem:  # exporters raise errors of every kind; each means: not in this way
        words = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ModelError(f"the network could not be written as ONNX by '{exporter}': {words}") from problem
    return names


def quantized(graph: Path, out: Path, *, narrowing: bool = True) -> None:
    """Write the graph with int8 products: weights per output column, activations by their range in each batch.

    Args:
        graph: a float32 graph.
        out: file to write.
        narrowing: whether products from wide to narrow (a layer's second feed-forward one) are among them. Its inputs
            hold a few large values that stretch the range: left in float32, a fitted MiniLM differed a third less in
            probability on SST-2, and took a quarter longer.

    No ranges are fixed beforehand (static quantization), so texts unlike the calibration's lose no more than others;
    what the calibration texts decide is which graph is kept (`exporting`).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            str(graph),
            str(out),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=[] if narrowing else _narrowing(graph),
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _narrowing(graph: Path) -> list[str]:
    """Return the names of products whose weights have more rows than columns."""
    import onnx

    made = onnx.load(str(graph), load_external_data=False).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in made.initializer}
    products = [(node.name, shapes.get(node.input[1], ())) for node in made.node if node.op_type == "MatMul"]
    return [name for name, shape in products if len(shape) == 2 and shape[0] > shape[1]]


def import_onnx(purpose: str) -> Any:
    """Import onnx and onnxruntime; return onnxruntime.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as problem:
        raise MissingExtraError("onnx", purpose) from problem
    return onnxruntime


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what tracers and optimizers say about their own work off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
