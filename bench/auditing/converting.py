"""An ONNX model in the operators that onnx2torch knows: newer ones are written as older ones."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, NodeProto, helper, inliner, numpy_helper, shape_inference
from onnx.version_converter import convert_version

OPSET = 17
"""The newest operators that onnx2torch knows well."""

HIDDEN = "hidden"
"""A domain of operators that the converter of versions leaves as they are."""

SPELT_OUT = [("", "Gelu"), ("", "GroupNormalization")]
"""Newer operators whose definition by older ones is put in their place."""


def known(model: ModelProto) -> ModelProto:
    """The same model with operators of `OPSET` at most. May change ``model``.

    Raises whatever the converter of versions raises for an operator that has no older form.
    """
    versions = {one.domain: one.version for one in model.opset_import}
    if versions.get("", versions.get("ai.onnx", OPSET)) > OPSET:
        model = inliner.inline_selected_functions(
            model, SPELT_OUT, exclude=False, inline_schema_functions=True
        )
        _hide_splits(model)
        model = convert_version(model, OPSET)
        for node in model.graph.node:
            if node.domain == HIDDEN:
                node.domain = ""
    nodes = _rewritten(model.graph)
    del model.graph.value_info[:]
    _replace(model.graph, nodes)
    model = shape_inference.infer_shapes(model, data_prop=True)
    _replace(model.graph, _hidden_scales(model.graph))
    for at, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{at}"  # onnx2torch loses nodes whose names it makes alike
    return model


def _hide_splits(model: ModelProto) -> None:
    """Splits say how many parts they make by their outputs alone, as before opset 18.

    The converter of versions has no step for them, so it does not get to see them.
    """
    model.opset_import.append(helper.make_opsetid(HIDDEN, 1))
    for node in model.graph.node:
        if node.op_type == "Split" and node.domain in ("", "ai.onnx"):
            _drop(node, "num_outputs")
            node.domain = HIDDEN


def _replace(graph: Any, nodes: list[NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _rewritten(graph: Any) -> list[NodeProto]:
    """Without nodes that pass a tensor on as it is, and with reshapes as they were before opset 14,
    where no length of theirs is zero."""
    constants = {one.name: one for one in graph.initializer}
    ends = {one.name for one in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = same.get(name, name)
        if node.op_type in ("Identity", "CastLike") and node.output[0] not in ends:
            same[node.output[0]] = node.input[0]  # all is float32 that could be cast
            continue
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and 0 not in numpy_helper.to_array(shape):
            _drop(node, "allowzero")
        kept.append(node)
    return kept


def _drop(node: NodeProto, attribute: str) -> None:
    for one in [one for one in node.attribute if one.name == attribute]:
        node.attribute.remove(one)


def _hidden_scales(graph: Any) -> list[NodeProto]:
    """With a node before the scale of each layer norm whose input has no shape that is known.

    onnx2torch asks for that shape where the scale is a constant, and else does without.
    """
    shaped = {one.name for one in graph.value_info if one.type.tensor_type.shape.dim}
    nodes = []
    for node in graph.node:
        if node.op_type == "LayerNormalization" and node.input[0] not in shaped:
            hidden = f"{node.output[0]}/scale"
            nodes.append(helper.make_node("Identity", [node.input[1]], [hidden]))
            node.input[1] = hidden
        nodes.append(node)
    return nodes
