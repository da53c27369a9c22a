"""An ONNX file as the network itself."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import install, refusal
from models.model import Model, Program, Sides
from models.networks.outputs import HALVES
from models.programs.onnx_checks import read_checked
from models.reader.checkpoint import Checkpoint, bare_checkpoint
from models.reader.container import ONNX
from models.reader.source import Source

if TYPE_CHECKING:
    from onnx import ModelProto

_LARGEST = 1024  # elements of a tensor inside the network, for each of the image's
_LEAST_LIMIT = 4 * 2**30  # bytes for a pass over the smallest image, weights included
_CPU = "CPUExecutionProvider"
_AS_REQUESTED = "arena_extend_strategy"  # else an arena doubles, and meets its limit sooner
_PARAMETERS = ("weight", "bias", "running_mean", "running_var")  # as PyTorch's layers call them, and its exporter too
_READ = (np.float32, np.float16, np.float64)


class Graph(Program):
    """An ONNX graph with one image as its input.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, model: "ModelProto", takes: Sides, weights: dict[str, Tensor]) -> None:
        super().__init__(ONNX, takes, hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
        self.path = path
        self.input = _inputs(model)[0].name
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights.values())
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """All outputs by name, from ONNX Runtime on the CPU, started for this one call: for checks, not for timing."""
        import onnx
        import onnxruntime

        model = read_checked(self.path)
        _fix_input(model, x.shape)
        _refuse_large(onnx.shape_inference.infer_shapes(model, data_prop=True), x.numel())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Constants would be folded in memory that no limit holds for.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        names = [output.name for output in model.graph.output]
        with _limited_memory(x.numel()):
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[_CPU])
            values = [value.copy() for value in session.run(names, {self.input: x.numpy()})]
            del session
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def read_graph(source: Source) -> Checkpoint:
    """Read an ONNX file: the graph and its floating-point weights by name; other constants are named as ignored.

    Where some are named as PyTorch's parameters are, those are the weights.

    Raises:
        CheckpointError: it is not a valid and self-contained network of one image, or there is no ONNX Runtime here.
    """
    path = source.path
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            problem = f"is an ONNX file, and the package {package} is not installed"
            raise refusal(path, problem, "pip install onnx" if package == "onnx" else install("cpu"))
    from onnx import numpy_helper

    model = read_checked(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    floats = {name: value for name, value in constants.items() if value.dtype in _READ}
    named = {name: value for name, value in floats.items() if name.rpartition(".")[2] in _PARAMETERS}
    weights = {name: torch.from_numpy(value.copy()) for name, value in (named or floats).items()}
    graph = Graph(path, model, _input_sides(path, model), weights)
    others = [name for name in constants if name not in weights]
    return replace(bare_checkpoint(source, weights, ignored=others), program=graph)


def with_fixed_shapes(model: Model, shape: Sequence[int], image: str, outputs: Sequence[str]) -> "ModelProto":
    """The graph that `model` is, for one `shape` ``[B, C, D, H, W]``; with its two outputs only, renamed, in float32.

    Without a classification the second is ``[B, 1]``, one of the segmentation's logits, and of one logit there are two
    made, as in `models.networks.outputs.Pair`.

    Raises:
        onnx.shape_inference.InferenceError: it does not accept that shape.
    """
    import onnx
    from onnx import TensorProto, helper
    from onnx.utils import Extractor

    pair: Any = model.module
    kept = [path[0] for path in (pair.segmentation, pair.classification) if path is not None]
    whole = read_checked(pair.network.path)
    _fix_input(whole, shape)
    pruned = Extractor(whole).extract_model([pair.network.input], kept)
    _rename(pruned.graph, {pair.network.input: image, **dict(zip(kept, outputs, strict=False))})
    _cast_outputs(pruned.graph)
    if pair.classification is None:
        _add_placeholder(pruned.graph, *outputs)
    if pair.binary:
        _add_second_logit(pruned.graph, outputs[1])
    del pruned.graph.output[:], pruned.graph.value_info[:]
    sides = (len(model.labels), *shape[2:]), (model.subtypes or 1,)
    for name, rest in zip(outputs, sides, strict=True):
        pruned.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], *rest]))
    return onnx.shape_inference.infer_shapes(pruned, check_type=True, strict_mode=True, data_prop=True)


def _inputs(model: Any) -> list[Any]:
    """Those that the caller must supply: older files list the weights among them."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initialized]


def _input_sides(path: Path, model: Any) -> Sides:
    import onnx

    inputs = _inputs(model)
    shapes = [f"{value.name[:40]} {_sides(value)}" for value in inputs]
    kind = inputs[0].type.tensor_type.elem_type if inputs else None
    sides = _sides(inputs[0]) if len(inputs) == 1 else ()
    if len(sides) != 5 or kind != onnx.TensorProto.FLOAT:
        types = f" of type {onnx.TensorProto.DataType.Name(kind)}" if len(inputs) == 1 else ""
        problem = (
            f"has the inputs {', '.join(shapes[:4]) or 'none'}{types}, where one float32 [B, C, D, H, W] is expected"
        )
        raise refusal(path, problem, "export the network for one image, its channels together, in float32")
    return sides


def _sides(value: Any) -> Sides:
    """Sides of a tensor; None where the graph leaves one open."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _fix_input(model: Any, shape: Sequence[int]) -> None:
    for dim, side in zip(_inputs(model)[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = side


@contextmanager
def _limited_memory(elements: int) -> Iterator[None]:
    """Bound what sessions with the environment's allocator may take for an image of `elements` inside the context.

    Sizes that follow from the values of tensors are known to nothing but the pass itself.
    """
    import psutil

    limit = min(psutil.virtual_memory().available // 2, max(_LEAST_LIMIT, 4 * _LARGEST * elements * 4))
    _limit_arena(limit)
    try:
        yield
    except Exception as error:
        if "Available memory of" in str(error):
            raise ValueError(f"a pass would take more than {limit / 2**30:.1f} GiB") from None
        raise
    finally:
        _limit_arena(1)  # an arena takes the place of the last one, whose memory is given back


def _limit_arena(limit: int) -> None:
    """`limit` in bytes."""
    import onnxruntime

    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    with suppress(Exception):  # of versions that keep the first arena of a process, and its limit
        onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"max_mem": limit, _AS_REQUESTED: 1}))


def _refuse_large(model: Any, elements: int) -> None:
    """A few bytes can ask for a tensor of any size, so that of a network's is measured against its image."""
    for value in (*model.graph.value_info, *model.graph.output):
        sides = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if prod(sides) > _LARGEST * elements:
            raise ValueError(f"{value.name[:80]} would be {sides[:8]}, more than {_LARGEST} times the image")


def _rename(graph: Any, names: dict[str, str]) -> None:
    taken = {name for node in graph.node for name in (*node.input, *node.output)} - set(names)
    new = names | {name: f"{name}_of_the_file" for name in taken & set(names.values())}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new.get(value.name, value.name)


def _cast_outputs(graph: Any) -> None:
    """Make outputs of another floating-point type float32."""
    from onnx import TensorProto, helper

    others = [value.name for value in graph.output if value.type.tensor_type.elem_type != TensorProto.FLOAT]
    cast_from = {name: f"{name}_of_its_type" for name in others}
    _rename(graph, cast_from)
    graph.node.extend(helper.make_node("Cast", [cast_from[name]], [name], to=TensorProto.FLOAT) for name in others)


def _add_placeholder(graph: Any, segmentation: str, placeholder: str) -> None:
    """``segmentation[:, :1, 0, 0, 0]``."""
    from onnx import helper, numpy_helper

    bounds = {"first": [0] * 4, "last": [1] * 4, "axes": [1, 2, 3, 4]}
    named = {name: f"placeholder_{name}" for name in bounds}
    graph.initializer.extend(numpy_helper.from_array(np.array(value), named[name]) for name, value in bounds.items())
    graph.node.append(helper.make_node("Slice", [segmentation, *named.values()], ["placeholder_voxel"]))
    graph.node.append(helper.make_node("Flatten", ["placeholder_voxel"], [placeholder], axis=1))


def _add_second_logit(graph: Any, classification: str) -> None:
    """Two logits ``[B, 2]`` in the place of the one, ``[B, 1]``."""
    from onnx import helper, numpy_helper

    single, halves = f"{classification}_of_one_logit", f"{classification}_halves"
    _rename(graph, {classification: single})
    graph.initializer.append(numpy_helper.from_array(np.array(HALVES, dtype=np.float32), halves))
    graph.node.append(helper.make_node("Mul", [single, halves], [classification]))
