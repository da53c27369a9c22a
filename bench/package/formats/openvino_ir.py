"""The network as OpenVINO's intermediate representation: ``model.xml`` and ``model.bin``."""

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
from bench.package.formats.onnx_graph import graphs_of
from engines.openvino.core import core

_BACKEND = "openvino-fp32"  # which runs what can be such files
_FILE = "model.xml"
_QUANTIZED = "openvino-int8"  # the kind of artefact that is an IR already


def refuse(subject: Subject) -> None:
    """Refuse networks without a graph.

    Raises:
        InputError: one has none.
    """
    refuse_without(subject, _BACKEND)


def write(subject: Subject, folder: Path) -> Written:
    """Write ``model.xml`` and ``model.bin`` into `folder`, for an ensemble into a folder of each network."""
    files, precision = write_irs(subject, subject.places(folder))
    write_plans(subject, folder)
    inputs, outputs = tensors_of(files[0])
    hint = hint_of(subject)
    remarks = (
        f"the precision of what is not INT8 is chosen when it is compiled: set INFERENCE_PRECISION_HINT={hint}, since "
        "OpenVINO's own choice is BF16 on every CPU that has it",
    )
    return Written(
        networks=files,
        inputs=inputs,
        outputs=outputs,
        precision=precision,
        hint=hint,
        remarks=(*remarks, *unlike_the_run(subject, precision), *other_runtime(subject, "openvino")),
    )


def write_irs(subject: Subject, places: list[Path]) -> tuple[tuple[Path, ...], str]:
    """Write the IR of each network into its place; return the files and their precision.

    INT8 is that which ran. Any other is made of the ONNX graph, and its weights stay float32.
    """
    built = subject.built(_QUANTIZED)
    if built:
        for source, place in zip(built, places, strict=True):
            for file in source.glob("int8.*"):
                shutil.copyfile(file, (place / _FILE).with_suffix(file.suffix))
        precision = "int8"
    else:
        import openvino

        graphs, precision = graphs_of(subject, half=False)
        for graph, place in zip(graphs, places, strict=True):
            openvino.save_model(core().read_model(str(graph)), str(place / _FILE), compress_to_fp16=False)
    return tuple(place / _FILE for place in places), precision


def hint_of(subject: Subject) -> str:
    """OpenVINO's name of the precision in which the variant runs what is not INT8."""
    ran: str | None = subject.details.get("hint")
    return ran or ("bf16" if subject.precision == "bf16" else "f32")


def unlike_the_run(subject: Subject, precision: str) -> tuple[str, ...]:
    """What is to be said where OpenVINO will not do what the run did; BF16 of FP32 weights it does."""
    if precision == "int8" and not subject.built(_QUANTIZED):
        return ("its INT8 ranges are those of ONNX Runtime's quantizer, and the run did not show OpenVINO with them",)
    if "class_check_below" in subject.details:
        return ("it does not compute a class that INT8 leaves uncertain again in FP32, as the run did",)
    if subject.precision == "bf16":
        return ()
    return other_precision(subject, precision)


def tensors_of(file: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs and outputs of an IR, whose shapes are fixed."""
    model = core().read_model(str(file))
    return tuple(map(_tensor, model.inputs)), tuple(map(_tensor, model.outputs))


def _tensor(port: Any) -> TensorInfo:
    return TensorInfo(port.get_any_name(), port.get_element_type().to_dtype().name, tuple(port.get_shape()))
