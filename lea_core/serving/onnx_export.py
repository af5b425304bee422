"""A policy as an ONNX graph with scores and the best items in it, checked against the policy before it is published.

In: a policy folder. Out: a folder for `OnnxPolicy` (onnx_policy.py), or any other ONNX runtime:

    policy.onnx          the graph
    vocabulary.parquet   item indices to ids, as in the policy folder
    onnx.json            what it was made of and how far it is from the policy (`export_folder`)
    manifest.json        hashes of the others (folder.py)

The graph's inputs, int64: `items` (B, T), at most the last `history` items of each row, oldest first, padded with -1 on
the right; `seen` (B, S), the items to exclude, in any order, padded with -1, S at least 1 (a history may have more
items than the network reads); `k` (1,), optional. Outputs: `best` (B, k) int64 and `scores` (B, k) float32, higher
scores first, and of equal scores the lower item; -1 and minus infinity if fewer items are left. The caller answers a
row without items, by popularity; the graph gives it state 0, so the same answer for all such rows. The order of equal
scores is that of ONNX TopK, which is the one of top_k.py.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lea_core.common.artifacts import publish_folder, write_json
from lea_core.common.errors import LeaError
from lea_core.models.policy_network import REPEAT_STEP, PolicyNetwork
from lea_core.models.ragged import StaticBatch
from lea_core.serving.folder import VOCABULARY, seal
from lea_core.serving.onnx_parity import check_parity, measure_int8
from lea_core.serving.onnx_policy import DESCRIPTION, GRAPH, OnnxPolicy
from lea_core.serving.torch_policy import Policy

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20  # the first with GELU as one operation


class Graph(nn.Module):
    """What is exported: (B, T) items and (B, S) seen items -> (B, k) best items and their scores."""

    def __init__(self, network: PolicyNetwork, k: int) -> None:
        super().__init__()
        # A copy with the same weights: the policy keeps its own layers.
        self.network = copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})
        self.network.backbone.use_onnx_layers()
        self.k = k

    def forward(self, items: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """See the module's header."""
        scores = self.network.logits(self.network.backbone.last(StaticBatch(items)))
        if self.network.repeat_bias is not None:
            # Written, not added: an item that is read twice gets the same number twice. So does the first item, which
            # stands for padding.
            first = items[:, :1]
            read = torch.where(items < 0, first, items).clamp(min=0)
            raised = scores.gather(1, read) + REPEAT_STEP * self.network.repeat_bias * (first >= 0)
            scores = scores.scatter(1, read, raised)
        # The minimum of a score and plus infinity is the score: padding does not change item 0.
        bounds = torch.where(seen < 0, torch.inf, -torch.inf)
        scores = scores.scatter_reduce(1, seen.clamp(min=0), bounds, "amin")
        values, best = scores.topk(self.k, dim=1)
        return best.masked_fill(values.isneginf(), -1), values


def export(policy: Policy, path: Path, k: int) -> None:
    """Write the graph of `policy` as an ONNX file, with k best items where its caller names no other number.

    Raises `LeaError` where k is not 1 to the number of items, or a package is missing.
    """
    need_packages()
    if not 1 <= k <= policy.config.num_items:
        raise LeaError(f"k is {k}: give 1 to {policy.config.num_items}, the number of items")
    time = min(2, policy.config.history)
    rows = torch.zeros((2, time), dtype=torch.int64)
    batch, seen = torch.export.Dim("batch"), torch.export.Dim("seen_time")
    # A network that reads one item has nothing to be dynamic about.
    items = torch.export.Dim("time", max=policy.config.history) if time > 1 else time
    with quiet():
        program = torch.onnx.export(
            Graph(policy.network, k).eval(),
            (rows, torch.zeros((2, 3), dtype=torch.int64)),
            dynamo=True,
            opset_version=OPSET,
            input_names=["items", "seen"],
            output_names=["best", "scores"],
            dynamic_shapes={"items": {0: batch, 1: items}, "seen": {0: batch, 1: seen}},
            verbose=False,
        )
        if program is None:
            raise LeaError("torch exported nothing: use the versions of constraints.txt")
        _let_callers_choose_k(program.model, k)
        _drop_notes(program.model)
        program.save(path)


def _let_callers_choose_k(model: Any, k: int) -> None:
    """Make TopK's number of items an input of the graph, with k for those who leave it out."""
    import onnx_ir as ir

    (top,) = (node for node in model.graph if node.op_type == "TopK")
    number = ir.Value(name="k", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1]))
    number.const_value = ir.tensor([k], dtype=ir.DataType.INT64, name="k")
    top.replace_input_with(1, number)
    model.graph.inputs.append(number)
    model.graph.register_initializer(number)
    # Shapes that were inferred for this k alone: everything behind TopK.
    changed = list(top.outputs)
    for value in changed:
        value.shape = ir.Shape(["batch", "k"])
        changed += [output for node in value.consumers() for output in node.outputs]


def _drop_notes(model: Any) -> None:
    """Delete the exporter's notes on the source code: they contain paths of this machine."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        values += node.outputs
    for part in (model, model.graph, *values):
        part.metadata_props.clear()


def export_folder(policy_folder: Path, out: Path, k: int, int8: bool) -> list[str]:
    """Publish the ONNX folder of a policy folder; returns lines that say what was measured.

    int8: tables of items as 8-bit integers. onnx.json has backbone, num_items, history, exclude_seen, k, opset,
    int8, and what `check_parity` and, with int8, `measure_int8` measured. Raises `LeaError` where the graph's answers
    are not the policy's, where the policy folder is broken, or where a package is missing.
    """
    need_packages()
    policy = Policy.load(policy_folder)
    k = min(k, policy.config.num_items)
    made: dict[str, Any] = {
        "backbone": policy.config.backbone,
        "exclude_seen": policy.exclude_seen,
        "history": policy.config.history,
        "int8": int8,
        "k": k,
        "num_items": policy.config.num_items,
        "opset": OPSET,
    }
    with publish_folder(out) as folder:
        export(policy, folder / GRAPH, k)
        shutil.copyfile(policy_folder / VOCABULARY, folder / VOCABULARY)
        _finish(folder, made)
        found = check_parity(policy, OnnxPolicy.load(folder))
        lines = [f"{policy.config.backbone}, {policy.config.num_items:,} items: {found.line}"]
        made |= {"difference": found.difference, "overlap": found.overlap}
        if int8:
            whole = OnnxPolicy.load(folder)
            quantise(folder / GRAPH)
            _finish(folder, made)
            small, interactions = OnnxPolicy.load(folder), policy_folder.parent / "interactions"
            numbers, line = measure_int8(whole, small, policy.config.history, interactions)
            made |= numbers
            lines.append(line)
        _finish(folder, made)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return [*lines, f"{out}: {size / 1e6:.1f} MB"]


def _finish(folder: Path, made: dict[str, Any]) -> None:
    write_json(folder / DESCRIPTION, made)
    seal(folder)


def quantise(path: Path) -> None:
    """Turn the graph's two tables over the items, embeddings and actor, to 8-bit integers, in place.

    They are almost all of its bytes; the other layers stay as they are.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    tables = {f"network.{name}" for name in ("backbone.item_embedding.weight", "actor.weight")}
    nodes = [node.name for node in model.graph.node if tables & set(node.input)]
    outputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    with quiet():
        quantize_dynamic(
            model,
            path,
            per_channel=True,  # of the actor: a scale for every item
            nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],  # what it makes of a Gemm first
        )
    model = onnx.load(path)
    whole = [value.name for value in model.graph.initializer if value.name.startswith(tuple(tables))]
    if [name for name in whole if not name.endswith(("_quantized", "_scale", "_zero_point"))]:
        raise LeaError(f"onnxruntime left {', '.join(whole)} as they were: use the versions of constraints.txt")
    # It inferred shapes, with the k that is there if nobody says another.
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.extend(outputs)
    onnx.save(model, path)


def need_packages() -> None:
    """Raise `LeaError` where a package is missing that an export needs."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise LeaError(f"{name} is not installed: pip install 'lea-recommender[onnx]'")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the exporters' log messages and warnings; errors are exceptions."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)
