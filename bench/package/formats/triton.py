"""A model repository for NVIDIA's Triton: a model that runs whole cases, and the network beside it, tile by tile.

Shapes of the network are fixed, as in the run, so that Triton batches no tiles itself (``max_batch_size: 0``). It is
called by the model of the cases where Triton runs it as the run did; where it would not, that one runs the package's
own engine.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from bench.package.formats import onnx_graph, openvino_ir
from bench.package.formats.case_config import MODEL_PY, NEEDS_VOXBENCH, PACKAGE, said_of_code, triton_config
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
_ONNX_RUNTIME = ("ort-fp", "ort-int8")  # without its provider TensorRT, which the configuration does not name
_NO_TF32 = (
    'optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "cuda" '
    'parameters { key: "use_tf32" value: "0" } } ] } }'
)  # as the run had it; ONNX Runtime's default is TF32
_BF16 = 'parameters { key: "HINT_BF16" value: { string_value: "YES" } }'


def refuse(subject: Subject) -> None:
    """Refuse nothing: what cannot be packed is refused when it is, and a network without a graph is not beside it."""


def write(subject: Subject, folder: Path) -> Written:
    """Write the repository into `folder`."""
    name = subject.model_name
    tiles = _Tiles.written(subject, folder, name)
    networks = tiles.names if tiles.as_in_the_run else []
    place = folder / name / _VERSION
    place.mkdir(parents=True)
    packed = subject.pack(place / PACKAGE)
    (place / "model.py").write_text(MODEL_PY)
    tile_type = tiles.inputs[0].type if tiles.inputs else "float32"
    (folder / name / _CONFIG).write_text(triton_config(subject, name, networks, tile_type))
    return Written(
        networks=tiles.files,
        inputs=tiles.inputs,
        outputs=tiles.outputs,
        precision=tiles.precision,
        hint=tiles.hint,
        served=name,
        remarks=(
            NEEDS_VOXBENCH,
            *tiles.said(name),
            *said_of_code(packed, f'the parameter trust in {name}/{_CONFIG} to "yes"'),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """The networks of the variant as models of Triton's; none where they have no graph.

    Attributes:
        remarks: in what Triton would not run them as the run did.
    """

    names: list[str]
    files: tuple[Path, ...] = ()
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    precision: str
    hint: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def as_in_the_run(self) -> bool:
        return bool(self.names) and not self.remarks

    def said(self, name: str) -> tuple[str, ...]:
        """For whoever sets up the server."""
        if self.as_in_the_run:
            return (f"{name} has Triton run {' and '.join(self.names)}",)
        return (*self.remarks, f"so {name} runs the network by itself, as the run did")

    @classmethod
    def written(cls, subject: Subject, folder: Path, name: str) -> "_Tiles":
        """Write them."""
        openvino = subject.settings.backend.startswith("openvino")
        try:
            (openvino_ir if openvino else onnx_graph).refuse(subject)
        except InputError as error:
            return cls(names=[], precision=subject.precision, remarks=(_without_option(error),))
        names = [f"{name}-tile"]
        if len(subject.models) > 1:
            names = [f"{name}-tile-{number}" for number in range(len(subject.models))]
        places = [folder / each / _VERSION for each in names]
        for place in places:
            place.mkdir(parents=True)
        write_plans(subject, folder)
        tiles = _openvino(subject, names, places) if openvino else _onnx(subject, names, places)
        for each in names:
            (folder / each / _CONFIG).write_text(_config(subject, each, _OPENVINO if openvino else _ONNX, tiles))
        if len(names) == 1 and len(tiles.outputs) > 1:
            _write_logits_alone(folder, name, names[0], tiles)
        return tiles


def _openvino(subject: Subject, names: list[str], places: list[Path]) -> _Tiles:
    files, precision = openvino_ir.write_irs(subject, places)
    inputs, outputs = openvino_ir.tensors_of(files[0])
    hint = openvino_ir.hint_of(subject)
    remarks = _on_openvino(hint) + openvino_ir.unlike_the_run(subject, precision)
    return _Tiles(
        names=names, files=files, inputs=inputs, outputs=outputs, precision=precision, hint=hint,
        remarks=remarks,
    )  # fmt: skip


def _onnx(subject: Subject, names: list[str], places: list[Path]) -> _Tiles:
    sources, precision = onnx_graph.graphs_of(subject)
    files = onnx_graph.copy_graphs(sources, places)
    inputs, outputs = onnx_graph.tensors_of(files[0])
    remarks = other_precision(subject, precision) + other_runtime(subject, *_ONNX_RUNTIME)
    return _Tiles(names=names, files=files, inputs=inputs, outputs=outputs, precision=precision, remarks=remarks)


def _without_option(error: InputError) -> str:
    """Why there is no tile network, without what to do about it: nothing need be done."""
    return str(error).partition(": ")[2].partition("; ")[0]


def _write_logits_alone(folder: Path, name: str, tile: str, tiles: _Tiles) -> None:
    """A model with the segmentation as its only output, for clients that take one: an ensemble of one step."""
    (folder / f"{name}-logits" / _VERSION).mkdir(parents=True)
    (folder / f"{name}-logits" / _VERSION / ".keep").touch()  # Triton wants the folder of the version
    (image,), segmentation = tiles.inputs, tiles.outputs[0]
    maps = (
        f'input_map {{ key: "{image.name}" value: "{image.name}" }} '
        f'output_map {{ key: "{segmentation.name}" value: "{segmentation.name}" }}'
    )
    lines = [
        f"name: {json.dumps(f'{name}-logits')}",
        'platform: "ensemble"',
        "max_batch_size: 0",
        f"input [ {_tensor(image)} ]",
        f"output [ {_tensor(segmentation)} ]",
        f"ensemble_scheduling {{ step [ {{ model_name: {json.dumps(tile)}, model_version: -1 {maps} }} ] }}",
    ]
    (folder / f"{name}-logits" / _CONFIG).write_text("\n".join(lines) + "\n")


def _on_openvino(hint: str) -> tuple[str, ...]:
    if hint == "bf16":
        return ()
    return (
        "Triton's OpenVINO backend has no setting for FP32: on a CPU with BF16 it runs what is not INT8 in BF16, which "
        "the run did not show",
    )


def _config(subject: Subject, name: str, backend: str, tiles: _Tiles) -> str:
    """``config.pbtxt`` of a tile network, Triton's ModelConfig in protobuf's text format."""
    on_cuda = subject.opening.target.on_cuda
    lines = [
        f"name: {json.dumps(name)}",
        f"backend: {json.dumps(backend)}",
        "max_batch_size: 0",
        *(f"input [ {_tensor(each)} ]" for each in tiles.inputs),
        *(f"output [ {_tensor(each)} ]" for each in tiles.outputs),
        f"instance_group [ {{ count: 1, kind: {'KIND_GPU' if on_cuda else 'KIND_CPU'} }} ]",
        f"version_policy: {{ specific: {{ versions: [ {_VERSION} ] }} }}",
    ]
    if backend == _OPENVINO and tiles.hint == "bf16":
        lines.append(_BF16)
    if backend == _ONNX and on_cuda:
        lines.append(_NO_TF32)
    return "\n".join(lines) + "\n"


def _tensor(info: TensorInfo) -> str:
    sides = ", ".join(map(str, info.shape))
    return f"{{ name: {json.dumps(info.name)}, data_type: {_TYPES[info.type]}, dims: [ {sides} ] }}"
