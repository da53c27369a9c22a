"""The network as an ONNX file: the very graph that the variant ran, where it ran one."""

import shutil
from pathlib import Path
from typing import Any

from bench.package.formats.description import (
    Subject,
    TensorInfo,
    Written,
    other_precision,
    other_runtime,
    refuse_without,
    write_plans,
)
from engines.onnx.export import onnx_file

_BACKEND = "ort-fp32"  # which runs what can be such a file
_FILE = "model.onnx"
_RUNTIMES = ("ort", "openvino", "tensorrt")  # that start from such a file
_PRECISIONS = {"ort-int8": "int8", "onnx-fp16": "fp16", "onnx-fp32": "fp32"}  # of artefacts that are a graph


def refuse(subject: Subject) -> None:
    """Refuse networks without a graph.

    Raises:
        InputError: one has none.
    """
    refuse_without(subject, _BACKEND)


def write(subject: Subject, folder: Path) -> Written:
    """Write ``model.onnx`` into `folder`, for an ensemble one into a folder of each network."""
    sources, precision = graphs_of(subject)
    files = copy_graphs(sources, subject.places(folder))
    write_plans(subject, folder)
    inputs, outputs = tensors_of(files[0])
    remarks = (*other_precision(subject, precision), *other_runtime(subject, *_RUNTIMES))
    return Written(networks=files, inputs=inputs, outputs=outputs, precision=precision, remarks=remarks)


def graphs_of(subject: Subject, *, half: bool = True) -> tuple[list[Path], str]:
    """The ONNX file of each network, and their precision: that which ran, else a new one in float32.

    `half`: also one in float16.
    """
    for kind, precision in _PRECISIONS.items():
        built = subject.built(kind) if half or precision != "fp16" else []
        if built:
            return [next(folder.glob("*.onnx")) for folder in built], precision
    return [onnx_file(model, subject.opening.target)[0] for model in subject.models], "fp32"


def copy_graphs(sources: list[Path], places: list[Path]) -> tuple[Path, ...]:
    """Copy each file into its place, as ``model.onnx``."""
    pairs = zip(sources, places, strict=True)
    return tuple(Path(shutil.copyfile(source, place / _FILE)) for source, place in pairs)


def tensors_of(file: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs and outputs of an ONNX file, whose shapes are fixed."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    return tuple(map(_tensor, graph.input)), tuple(map(_tensor, graph.output))


def _tensor(value: Any) -> TensorInfo:
    import onnx

    held = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(held.elem_type).name
    return TensorInfo(value.name, kind, tuple(dim.dim_value for dim in held.shape.dim))
