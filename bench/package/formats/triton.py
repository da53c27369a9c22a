"""A model repository for NVIDIA's Triton: the network, from a tile to its logits; the caller cuts and merges cases.

Shapes are fixed, as in the run, so that Triton batches nothing itself (``max_batch_size: 0``).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from bench.package.formats import onnx_graph, openvino_ir
from bench.package.formats.description import (
    Subject,
    TensorInfo,
    Written,
    other_precision,
    other_runtime,
    write_plans,
)

_CONFIG, _VERSION = "config.pbtxt", "1"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_OPENVINO, _ONNX = "openvino", "onnxruntime"  # Triton's names of its backends
_NO_TF32 = (
    'optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "cuda" '
    'parameters { key: "use_tf32" value: "0" } } ] } }'
)  # as the run had it; ONNX Runtime's default is TF32
_BF16 = 'parameters { key: "HINT_BF16" value: { string_value: "YES" } }'


def refuse(subject: Subject) -> None:
    """Refuse networks without a graph.

    Raises:
        InputError: one has none.
    """
    (openvino_ir if _backend(subject) == _OPENVINO else onnx_graph).refuse(subject)


def write(subject: Subject, folder: Path) -> Written:
    """Write the repository into `folder`, with a model for each network of an ensemble."""
    names = _names(subject)
    places = [folder / name / _VERSION for name in names]
    for place in places:
        place.mkdir(parents=True)
    write_plans(subject, folder)
    backend, on_cuda = _backend(subject), subject.opening.target.on_cuda
    hint = None
    if backend == _OPENVINO:
        files, precision = openvino_ir.write_irs(subject, places)
        (inputs, outputs), hint = openvino_ir.tensors_of(files[0]), openvino_ir.hint_of(subject)
        extra = [_BF16] if hint == "bf16" else []
        remarks = _on_openvino(hint) + openvino_ir.unlike_the_run(subject, precision)
    else:
        sources, precision = onnx_graph.graphs_of(subject)
        files = onnx_graph.copy_graphs(sources, places)
        inputs, outputs = onnx_graph.tensors_of(files[0])
        extra = [_NO_TF32] if on_cuda else []
        remarks = other_precision(subject, precision) + other_runtime(subject, "ort")
    for name in names:
        kind = "KIND_GPU" if on_cuda else "KIND_CPU"
        (folder / name / _CONFIG).write_text(_config(name, backend, inputs, outputs, kind, extra))
    return Written(networks=files, inputs=inputs, outputs=outputs, precision=precision, hint=hint, remarks=remarks)


def _backend(subject: Subject) -> str:
    return _OPENVINO if subject.settings.backend.startswith("openvino") else _ONNX


def _names(subject: Subject) -> list[str]:
    """Of the models, as Triton knows them."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{subject.models[0].task.name}-{subject.name}")
    return [name] if len(subject.models) == 1 else [f"{name}-{number}" for number in range(len(subject.models))]


def _on_openvino(hint: str) -> tuple[str, ...]:
    if hint == "bf16":
        return ()
    return (
        "Triton's OpenVINO backend has no setting for FP32: on a CPU with BF16 it runs what is not INT8 in BF16, which "
        "the run did not show",
    )


def _config(
    name: str, backend: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], kind: str, extra: list[str]
) -> str:
    """``config.pbtxt``, Triton's ModelConfig in protobuf's text format."""
    lines = [
        f"name: {json.dumps(name)}",
        f"backend: {json.dumps(backend)}",
        "max_batch_size: 0",
        *(f"input [ {_tensor(each)} ]" for each in inputs),
        *(f"output [ {_tensor(each)} ]" for each in outputs),
        f"instance_group [ {{ count: 1, kind: {kind} }} ]",
        f"version_policy: {{ specific: {{ versions: [ {_VERSION} ] }} }}",
        *extra,
    ]
    return "\n".join(lines) + "\n"


def _tensor(info: TensorInfo) -> str:
    sides = ", ".join(map(str, info.shape))
    return f"{{ name: {json.dumps(info.name)}, data_type: {_TYPES[info.type]}, dims: [ {sides} ] }}"
