"""Write out the attention in an OpenVINO graph as the plain matrix products it consists of.

OpenVINO turns its own attention operation into products, too. But it scales the keys and transposes
them in memory, and it applies a boolean mask by a selection where one addition would do. Written
out here, the scale is part of the query's weights, and the mask is one addition. That takes 2 to
3 % fewer processor seconds a batch in bfloat16 (docs/performance.md).
"""

import numpy as np
import openvino.opset15 as ops
from openvino import Model, Node, Output, Type

ATTENTION = "ScaledDotProductAttention"
MASKED = np.float32(-1e9)  # added before softmax, where e^-1e9 is 0


def write_out_attention(graph: Model) -> list[str]:
    """Replace, in place, each attention that has a mask and is not causal by matrix products.

    Returns:
        names of the products, two for each replaced attention; others are left as they are.
    """
    masks: dict[str, Output] = {}
    products: list[Node] = []
    for node in graph.get_ordered_ops():
        if node.get_type_name() != ATTENTION or len(node.inputs()) < 4:
            continue
        queries, keys, values, mask = (node.input_value(index) for index in range(4))
        size = queries.get_partial_shape()[-1]
        if node.get_attributes()["causal"] or size.is_dynamic:
            continue
        scale = np.float32(size.get_length() ** -0.5)
        if len(node.inputs()) > 4:
            constant = node.input_value(4).get_node()
            if constant.get_type_name() != "Constant":
                continue
            scale = np.float32(constant.data.item())
        name = f"{mask.get_node().get_friendly_name()} {mask.get_index()}"
        if name not in masks:
            masks[name] = _added(mask)
        scores = ops.matmul(_scaled(queries, scale), keys, False, True)
        weights = ops.softmax(ops.add(scores, masks[name]), -1)
        written = ops.matmul(weights, values, False, False)
        node.output(0).replace(written.output(0))
        products += [scores, written]
    graph.validate_nodes_and_infer_types()
    return [product.get_friendly_name() for product in products]


def _added(mask: Output) -> Output:
    """The mask as numbers to add to the scores: 0 where a boolean mask is true."""
    if mask.get_element_type() != Type.boolean:
        return mask
    zero = ops.constant(np.float32(0))
    return ops.select(mask, zero, ops.constant(MASKED)).output(0)


def _scaled(queries: Output, scale: np.float32) -> Output:
    """The queries times a constant, by way of their layer's weight and bias if these are found."""
    node = queries.get_node()
    while node.get_type_name() in ("Transpose", "Reshape") and _used_once(node):
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Add" and _used_once(node):
        product = node.input_value(0).get_node()
        if (
            product.get_type_name() == "MatMul"
            and _used_once(product)
            and _is_constant(product.input_value(1))
            and _is_constant(node.input_value(1))
        ):
            for place in (product.input(1), node.input(1)):
                constant = place.get_source_output().get_node()
                place.replace_source_output(ops.constant(constant.data * scale).output(0))
            return queries
    return ops.multiply(queries, ops.constant(scale)).output(0)


def _used_once(node: Node) -> bool:
    return sum(len(output.get_target_inputs()) for output in node.outputs()) == 1


def _is_constant(output: Output) -> bool:
    return bool(output.get_node().get_type_name() == "Constant")
