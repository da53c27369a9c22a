"""The network as an ONNX file with Q/DQ nodes, as TensorRT's explicit quantization reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import EngineError, Target
from engines.cache import artefact, key_of
from engines.onnx.export import PACKAGES, calibration_batches, onnx_file
from engines.placement import placed

if TYPE_CHECKING:
    from engines.quantization.fake_quantization import Scales
    from models.model import Model

_FILE, _REPORT = "int8.onnx", "quantization.json"


def qdq_file(model: "Model", target: Target) -> tuple[Path, Mapping[str, Any]]:
    """Export `model` in float16 with INT8 convolutions, or take it from the cache.

    Returns:
        The file (inputs and outputs as `engines.onnx.export.onnx_file` has them with ``half=True``), and what its
        quantization reports: layers in INT8, layers that fell back to FP16 and why. JSON values only.

    Raises:
        EngineError: INT8 would change the network's answers too much.
    """
    from engines.quantization import sensitivity
    from engines.quantization.fake_quantization import PERCENTILE

    assert target.calibration is not None, "an INT8 engine was opened without asking its probe"
    key = key_of(
        model, target, ("torch", *PACKAGES), precision="int8", calibration=target.calibration.sha256,
        percentile_of_tile=PERCENTILE, agreement=sensitivity.AGREEMENT, regions=model.painting is not None,
    )  # fmt: skip
    built = artefact(target, "onnx-int8", key, lambda folder: _build(model, target, folder))
    return built.folder / _FILE, json.loads((built.folder / _REPORT).read_text())


def _build(model: "Model", target: Target, folder: Path) -> None:
    scales, details = chosen_scales(model, target)
    path, _ = onnx_file(model, target, half=True)
    write(path, scales, folder / _FILE)
    (folder / _REPORT).write_text(json.dumps(details, indent=1))


def chosen_scales(model: "Model", target: Target) -> "tuple[dict[str, Scales], dict[str, Any]]":
    """The scales of the convolutions that INT8 may have, from the target's calibration tiles, and a report as JSON.

    Raises:
        EngineError: INT8 would change the network's answers too much.
    """
    from engines.evidence.mac_counter import layers_of
    from engines.pytorch.session import torch_settings
    from engines.quantization.fake_quantization import PERCENTILE, calibrate
    from engines.quantization.sensitivity import select

    batches = [batch.to(target.device) for batch in calibration_batches(model, target)]
    layers = layers_of(model.module, batches[0].shape)
    with torch_settings(target), placed(model.module, target.device) as network:
        scales = calibrate(network, batches, PERCENTILE)
        chosen = select(network, scales, batches, layers, regions=model.painting is not None)
    details = {"calibrator": f"percentile {PERCENTILE}", "calibration_tiles": sum(map(len, batches))}
    return {name: scales[name] for name in chosen.layers}, {**details, **chosen.details()}


def write(path: Path, scales: "Mapping[str, Scales]", out: Path) -> None:
    """Write the ONNX file at `path` with Q/DQ pairs around the inputs and weights of the layers in `scales`.

    Weights are stored as INT8. Activations are quantized right before the convolution, its output is not, as NVIDIA
    advises ("Q/DQ Layer-Placement Recommendations" in TensorRT's documentation): TensorRT itself moves the
    quantization up through pooling and concatenation (TensorRT issue 4366). Scales have the type of what they scale,
    float16 or float32: up to opset 22 ONNX asks for it.

    Raises:
        EngineError: the exporter has merged a layer's weights with others.
    """
    import onnx

    graph_of = onnx.load(str(path))
    graph = graph_of.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    wanted = {f"{name}.weight": scale for name, scale in scales.items()}
    weights, nodes = dict[str, str](), list[Any]()
    for node in graph.node:
        weight = node.input[1] if node.op_type == "Conv" else ""
        if weight in wanted:
            if weight not in weights:  # else another use of the same layer
                nodes.append(_quantized_weight(graph, stored[weight], wanted[weight]))
                weights[weight] = nodes[-1].output[0]
            nodes += _quantized_activation(graph, node, wanted[weight])
            node.input[0], node.input[1] = nodes[-1].output[0], weights[weight]
        nodes.append(node)
    missing = [name for name in scales if f"{name}.weight" not in weights]
    if missing:
        raise EngineError(f"{path} holds no convolution with the weights of {', '.join(missing)}: use FP16")
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(graph_of)
    onnx.save(graph_of, str(out))


def _quantized_activation(graph: Any, conv: Any, scale: "Scales") -> list[Any]:
    """The nodes that quantize the input of `conv` and scale it back."""
    import numpy as np
    from onnx import helper, numpy_helper

    step, zero, between, output = (f"{conv.name}_input_{part}" for part in ("scale", "zero", "int8", "dequantized"))
    kind = helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type)
    graph.initializer.append(numpy_helper.from_array(np.array(scale.activation, kind), step))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), zero))
    return [
        helper.make_node("QuantizeLinear", [conv.input[0], step, zero], [between], f"{between}_q"),
        helper.make_node("DequantizeLinear", [between, step, zero], [output], f"{output}_dq"),
    ]


def _quantized_weight(graph: Any, weight: Any, scale: "Scales") -> Any:
    """Replace a weight ``[out, in, D, H, W]`` by its INT8 values and the node that scales them back."""
    import numpy as np
    from onnx import helper, numpy_helper

    from engines.quantization.fake_quantization import LARGEST

    values, steps = numpy_helper.to_array(weight), scale.weight.numpy()
    rounded = np.rint(values.astype(np.float32) / steps.reshape(-1, 1, 1, 1, 1)).clip(-LARGEST, LARGEST)
    step, zero, stored, output = (f"{weight.name}_{part}" for part in ("scale", "zero", "int8", "dequantized"))
    graph.initializer.append(numpy_helper.from_array(steps.astype(values.dtype), step))
    graph.initializer.append(numpy_helper.from_array(np.zeros(len(steps), np.int8), zero))
    graph.initializer.append(numpy_helper.from_array(rounded.astype(np.int8), stored))
    graph.initializer.remove(weight)
    return helper.make_node("DequantizeLinear", [stored, step, zero], [output], f"{output}_dq", axis=0)
