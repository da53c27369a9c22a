"""The files that make a package in a folder a model of a server, which runs whole cases."""

import json
from collections.abc import Sequence
from typing import Any

from bench import __version__
from bench.package.formats.case_tensors import ABOUT, CLASS, IMAGE, MASK, PROBABILITIES, SECONDS, TYPES
from bench.package.formats.description import Subject, TensorInfo
from reports.records.package import PackageRecord

MOST_GIGABYTES = 4  # that a request may hold, unpacked
MOST_WAITING = 32  # requests in the queue; the next one is refused
AS_THE_RUN = 0  # threads: those of the package, as far as the machine of the server has them
PACKAGE = "package"  # folder of the package
NEEDS_VOXBENCH = f"the Python of the server needs voxbench {__version__} with its extra `predict`"

MODEL_PY = '''"""Runs whole cases: see model.json. The Python of this server needs voxbench with its extra `predict`."""

from bench.serving.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

_KINDS = {"bytes": "TYPE_STRING", "int32": "TYPE_INT32", "float32": "TYPE_FP32", "float64": "TYPE_FP64"}


def said_of_code(record: PackageRecord, setting: str) -> tuple[str, ...]:
    """For whoever sets up a server whose package holds built code; `setting` is what allows to run it, and where."""
    if not record.code:
        return ()
    return (f"the package holds built code, which a server runs only where it is allowed: set {setting}",)


def case_tensors(subject: Subject) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs and outputs of a model that runs whole cases, as `case_tensors` says; -1 is any number of files."""
    classes = max(1, len(subject.models[0].task.classes))
    outputs = (
        TensorInfo(MASK, "bytes", (1, 1)),
        TensorInfo(CLASS, "int32", (1, 1)),
        TensorInfo(PROBABILITIES, "float32", (1, classes)),
        TensorInfo(SECONDS, "float64", (1, 1)),
        TensorInfo(ABOUT, "bytes", (1, 1)),
    )
    return (TensorInfo(IMAGE, "bytes", (1, -1)),), outputs


def triton_config(subject: Subject, name: str, networks: Sequence[str], tile_type: str) -> str:
    """``config.pbtxt`` of a model that runs whole cases; `networks`: models of the tile network that it calls, if any.

    A batch of one lets Triton bound the queue, which it does for models with batches alone.
    """
    inputs, outputs = case_tensors(subject)
    parameters = {
        "networks": " ".join(networks),
        "tile_type": tile_type,
        "threads": AS_THE_RUN,
        "trust": "no",
        "most_gigabytes": MOST_GIGABYTES,
    }
    kind = "KIND_GPU" if subject.opening.target.on_cuda else "KIND_CPU"
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "python"',
        "max_batch_size: 1",
        *(f"input [ {_tensor(each)} ]" for each in inputs),
        *(f"output [ {_tensor(each)} ]" for each in outputs),
        f"instance_group [ {{ count: 1, kind: {kind} }} ]",
        f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {MOST_WAITING} }} }}",
        *(_parameter(key, value) for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def mlserver_settings(subject: Subject, name: str) -> dict[str, str]:
    """The files of MLServer, by their paths: of the server, and of the model beside its package."""
    server = {
        "parallel_workers": 0,  # what is cancelled is seen in the server's own process alone
        "grpc_max_message_length": 2**31 - 1,
        "debug": False,  # which would log every request
    }
    target, (inputs, outputs) = subject.opening.target, case_tensors(subject)
    model = {
        "name": name,
        "platform": "voxbench",
        "inputs": [_metadata(each) for each in inputs],
        "outputs": [_metadata(each) for each in outputs],
        "implementation": "bench.serving.mlserver_model.CaseModel",
        "parameters": {
            "uri": f"./{PACKAGE}",
            "version": "1",
            "extra": {
                "device": "cuda" if target.on_cuda else "cpu",
                "threads": AS_THE_RUN,
                "trust": False,
                "most_gigabytes": MOST_GIGABYTES,
                "most_waiting": MOST_WAITING,
            },
        },
    }
    return {"settings.json": _json(server), f"{name}/model-settings.json": _json(model)}


def _metadata(info: TensorInfo) -> dict[str, Any]:
    """As the protocol describes a tensor."""
    return {"name": info.name, "datatype": TYPES[info.type], "shape": list(info.shape)}


def _tensor(info: TensorInfo) -> str:
    """Without the axis of the batch, which Triton adds."""
    sides = ", ".join(map(str, info.shape[1:]))
    return f"{{ name: {json.dumps(info.name)}, data_type: {_KINDS[info.type]}, dims: [ {sides} ] }}"


def _parameter(name: str, value: object) -> str:
    return f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}'


def _json(values: Any) -> str:
    return json.dumps(values, indent=2) + "\n"
