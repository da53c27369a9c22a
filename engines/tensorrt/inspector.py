"""What TensorRT's engine inspector reports of a built engine, layer by layer.

The format of its JSON is described in NVIDIA's documentation of the engine inspector; TensorRT 11 split the field
``Format/Datatype`` (https://docs.nvidia.com/deeplearning/tensorrt/latest/, "Migrating IEngineInspector Usage").
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from engines.layers import UNKNOWN, Operation

_MULTIPLIES = re.compile(r"conv|deconv|gemm|matmul|matrix_?multiply|fully_?connected", re.IGNORECASE)
_TYPE_FIELDS = ("Format/Datatype", "Format/DataType", "DataType", "Datatype", "Format")
# In this order: a format such as "channel major FP16 format where channel % 8 == 0" holds more than one number.
_PRECISIONS = (
    (re.compile(r"\bint8\b|\bi8\b", re.IGNORECASE), "int8"),
    (re.compile(r"\bbf16\b|bfloat16", re.IGNORECASE), "bf16"),
    (re.compile(r"\bfp16\b|\bhalf\b|\bfloat16\b", re.IGNORECASE), "fp16"),
    (re.compile(r"\bfp32\b|\bfloat\b|\bfloat32\b", re.IGNORECASE), "fp32"),
)


def layers_of(report: str) -> list[Mapping[str, Any]]:
    """The layers of an inspector's JSON; none where the engine was built without the details."""
    try:
        layers = json.loads(report).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


def operations(layers: list[Mapping[str, Any]]) -> list[Operation]:
    """The layers that multiply: the precision of what they multiply, and the shapes of inputs, weights and outputs."""
    return [_operation(layer) for layer in layers if _MULTIPLIES.search(_kind(layer))]


def _kind(layer: Mapping[str, Any]) -> str:
    # A layer that its compiler generated has a type of its own; then the kind of its parameters may say.
    return f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"


def _operation(layer: Mapping[str, Any]) -> Operation:
    inputs, outputs = _tensors(layer, "Inputs"), _tensors(layer, "Outputs")
    weights = layer.get("Weights")
    shapes = [tensor["Dimensions"] for tensor in (*inputs, *outputs) if tensor.get("Dimensions")]
    if isinstance(weights, dict) and weights.get("Count"):
        shapes.append([int(weights["Count"])])
    precision = _precision(inputs[0]) if inputs else UNKNOWN
    if precision == UNKNOWN and isinstance(weights, dict):
        precision = _named(str(weights.get("Type", "")))
    if precision == "fp32" and "tf32" in str(layer.get("TacticName", "")).lower():
        precision = "tf32"
    return Operation(str(layer.get("Name", "")), precision, shapes)


def _tensors(layer: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    return [tensor for tensor in layer.get(field) or [] if isinstance(tensor, dict)]


def _precision(tensor: Mapping[str, Any]) -> str:
    return _named(" ".join(str(tensor[field]) for field in _TYPE_FIELDS if field in tensor))


def _named(text: str) -> str:
    return next((name for pattern, name in _PRECISIONS if pattern.search(text)), UNKNOWN)
