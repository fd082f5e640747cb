"""A classifier whose network is an ONNX graph, run by onnxruntime."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ModelError
from headstart.models import batching
from headstart.models.batching import TextSettings, Tokens
from headstart.models.classifier import Advance, Prepared, Probabilities, softmax
from headstart.models.loading import load_tokenizer
from headstart.models.onnx_graph import import_onnx
from headstart.models.runtime import Runtime

GRAPH = "model.onnx"
# onnxruntime is fastest on smaller batches than torch (docs/performance.md).
_SCORING_TOKENS = 512
_CALL_TOKENS = 10


class OnnxClassifier:
    """An exported network with its tokenizer; answers as the classifier that it was exported from.

    Args:
        graph: the ONNX file.
        tokenizer: the network's fast tokenizer.
        labels: C labels in the network's class order.
        text: maximum length and which part of a longer text is kept.
        threads: of onnxruntime; by default as many as torch uses.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the graph is damaged, or keeps its weights in other files.
    """

    kind = "onnx"

    def __init__(
        self, graph: Path, tokenizer: Any, labels: Labels, text: TextSettings, *, threads: int | None = None
    ) -> None:
        self.graph = graph
        self.tokenizer = tokenizer
        self.labels = labels
        self.text = text
        self.runtime = Runtime()
        self._session = new_session(graph, threads)
        self._inputs = [i.name for i in self._session.get_inputs()]

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        return self.score(self.prepare(examples), advance)

    def tokenize(self, examples: Examples) -> Tokens:
        """Tokenize and cut to the maximum length."""
        return batching.tokenize(self.tokenizer, examples, self.text)

    def prepare(self, examples: Examples) -> Prepared:
        """Tokenize."""
        return Prepared(examples, self.tokenize(examples))

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C) of tokenized texts."""
        assert prepared.tokens is not None
        return softmax(self.logits(prepared.tokens, advance))

    def logits(self, tokens: Tokens, advance: Advance | None = None) -> npt.NDArray[np.float32]:
        """Return logits (N, C), computed in batches of similar length."""
        out = np.zeros((len(tokens), len(self.labels)), dtype=np.float32)
        for rows in batching.scoring_batches(tokens.lengths, _SCORING_TOKENS, call_tokens=_CALL_TOKENS):
            batch = batching.collate(tokens, rows, self.tokenizer)
            out[rows] = self._session.run(None, {name: batch[name].numpy() for name in self._inputs})[0]
            if advance is not None:
                advance(len(rows))
        return out

    def parameters(self) -> int:
        """Return the number of values that the graph holds."""
        import onnx

        made = onnx.load(str(self.graph), load_external_data=False)
        return int(sum(np.prod(tensor.dims) for tensor in made.graph.initializer))

    def write(self, folder: Path) -> dict[str, Any]:
        """Write graph and tokenizer."""
        shutil.copyfile(self.graph, folder / GRAPH)
        self.tokenizer.model_max_length = self.text.max_length
        self.tokenizer.save_pretrained(str(folder))
        config = self.graph.with_name("config.json")
        if config.is_file():
            shutil.copyfile(config, folder / config.name)
        return {"graph": GRAPH}

    @classmethod
    def read(
        cls, folder: Path, about: dict[str, Any], labels: Labels, text: TextSettings, runtime: Runtime
    ) -> OnnxClassifier:
        """Read what `write` wrote."""
        return cls(folder / GRAPH, load_tokenizer(folder), labels, text)


def new_session(graph: Path, threads: int | None = None) -> Any:
    """Open a graph with onnxruntime on the processor.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the graph is damaged, or keeps its weights in other files.
    """
    import torch

    onnxruntime = import_onnx("an ONNX model")
    _check_graph(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's errors have no common base
        words = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ModelError(f"{graph} is damaged or of another kind ({words}); export the model again") from problem


def _check_graph(graph: Path) -> None:
    """Refuse a graph that would read other files, which may lie anywhere."""
    import onnx

    if not graph.is_file():
        raise ModelError(f"{graph} is missing; export the model again")
    try:
        made = onnx.load(str(graph), load_external_data=False)
    except Exception as problem:  # protobuf's errors differ from version to version
        raise ModelError(f"{graph} is damaged or truncated; export the model again") from problem
    nodes = [node for function in made.functions for node in function.node]
    tensors = itertools.chain(_tensors(made.graph), *map(_of_node, nodes))
    outside = [t.name or "no name" for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ModelError(
            f"{graph} keeps weights in other files ({outside[0]}); it is not loaded. Export the model again"
        )


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every stored tensor of a graph: initializers, and those in attributes and branches of its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)
