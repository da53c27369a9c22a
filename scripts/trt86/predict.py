"""Cases by TensorRT 8.6, for machines where no newer TensorRT can be had: a command of its own for `bench run`.

    bench run --backends torch-half --command trt86:server='python3.10 scripts/trt86/predict.py FOLDER --precision fp16'

FOLDER is what `scripts/trt86/export.py` wrote. Needs Python 3.10, NumPy, TensorRT 8.6, and of CUDA the driver alone. It
answers as docs/how-to/own-command.md says. The engine is built at the first start and kept in FOLDER.

TensorRT 8.6 is weakly typed: layers may run in FP16 or INT8 where flags allow it, and what it chose is printed. cuBLAS
and cuDNN are left out of its tactics, and normalization is its own layer, in FP32, in the place of a plugin of cuDNN's.
`--runtime onnxruntime` runs the same on a CPU, to try it. Not yet run on a GPU.
"""

import argparse
import ctypes
import hashlib
import itertools
import json
import math
import os
import struct
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

gzip: Any
damaged: Any
try:  # several times as fast
    from isal import igzip as gzip
    from isal.isal_zlib import error as damaged
except ImportError:
    import gzip
    from zlib import error as damaged

INPUT, OUTPUTS = "image", ("segmentation", "classification", "foreground")
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}  # of NIfTI-1
_HEADER, _UINT8 = 348, 2
_PARTS = 16  # that threads work on side by side

Array = NDArray[np.float32]
Outputs = Sequence[Array]  # as OUTPUTS


class CaseError(Exception):
    """A case cannot be predicted. The message is one line."""


class Nifti:
    """A NIfTI-1 file of one volume.

    Attributes:
        voxels: ``[x, y, z]``, float32, scaled as nibabel does.
    """

    def __init__(self, path: str) -> None:
        content = Path(path).read_bytes()
        if path.endswith(".gz"):
            content = gzip.decompress(content)
        self.order = "<" if content[:4] == struct.pack("<i", _HEADER) else ">"
        if len(content) < _HEADER or self._of(content, "i", 0) != _HEADER:
            raise CaseError(f"{path}: no NIfTI-1 file; convert it")
        axes, *shape = struct.unpack_from(f"{self.order}8h", content, 40)
        if axes < 3 or min(shape[:3]) < 1 or any(side > 1 for side in shape[3:axes]):
            raise CaseError(f"{path}: not a single 3-D volume; save one")
        kind, start = self._of(content, "h", 70), int(self._of(content, "f", 108))
        if kind not in _TYPES:
            raise CaseError(f"{path}: voxels of NIfTI's type {kind}; save them as int16 or float32")
        stored = np.dtype(self.order + _TYPES[kind])
        if len(content) < start + math.prod(shape[:3]) * stored.itemsize:
            raise CaseError(f"{path}: cut short; copy it again")
        self.header = bytearray(content[:_HEADER])
        voxels = np.ndarray(shape[:3], stored, content, start, order="F")
        slope, inter = self._of(content, "f", 112), self._of(content, "f", 116)
        if slope != 0 and math.isfinite(slope) and (slope, inter) != (1, 0):
            voxels = voxels * float(slope) + float(inter)
        self.voxels = np.ascontiguousarray(voxels, np.float32)
        if not np.isfinite(self.voxels).all():
            raise CaseError(f"{path}: voxels that are NaN or infinite; replace them")

    def write_mask(self, path: str, labels: NDArray[np.uint8]) -> None:
        """Write labels ``[x, y, z]``, uint8, where this volume lies."""
        header = self.header
        for form, at, values in (("2h", 70, (_UINT8, 8)), ("3f", 108, (_HEADER + 4, 1, 0)), ("2f", 124, (0, 0))):
            struct.pack_into(self.order + form, header, at, *values)
        unfinished = Path(path).with_name(f".{Path(path).name}")
        unfinished.write_bytes(gzip.compress(bytes(header) + bytes(4) + labels.tobytes(order="F"), 1, mtime=0))
        unfinished.replace(path)

    def _of(self, content: bytes, form: str, at: int) -> Any:
        return struct.unpack_from(self.order + form, content, at)[0]


class Case:
    """How a case is brought to the network and back: the values of FOLDER/case.json."""

    def __init__(self, folder: Path) -> None:
        self.said = json.loads((folder / "case.json").read_text())
        self.tile = self.said["tile"]
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def starts(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The first voxel of each tile, in the order of MONAI's sliding window."""
        per_axis = []
        for n, side in zip(shape, self.tile, strict=True):
            step = max(int(side * (1 - self.said["overlap"])), 1)
            per_axis.append([min(i * step, n - side) for i in range(math.ceil((n - side) / step) + 1)])
        return list(itertools.product(*per_axis))

    def prepared(self, volumes: Sequence[Nifti]) -> tuple[Array, list[int]]:
        """Channels ``[C, x, y, z]`` through the window, padded to at least one tile, and what was put in front."""
        low, high = map(np.float32, self.said["window"])
        x = (np.clip(np.stack([volume.voxels for volume in volumes]), low, high) - low) / (high - low)
        short = [max(side - n, 0) for n, side in zip(x.shape[1:], self.tile, strict=True)]
        before = [missing // 2 for missing in short]
        pads = [(0, 0), *((b, missing - b) for b, missing in zip(before, short, strict=True))]
        return (np.pad(x, pads) if any(short) else x), before

    def predict(self, images: Sequence[str], mask: str, runtime: "Runtime") -> int | None:
        """Write the mask of a case; return its class, or None."""
        if len(images) != self.said["channels"]:
            raise CaseError(f"{len(images)} images where the network takes {self.said['channels']}")
        volumes = list(self.pool.map(Nifti, images))
        if len({volume.voxels.shape for volume in volumes}) > 1:
            raise CaseError(f"{images[0]}: its channels differ in shape; resample them")
        x, before = self.prepared(volumes)
        total, votes, mass = self._sums(x, runtime)
        shape = volumes[0].voxels.shape
        box = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
        labels = self._labels(total[(slice(None), *box)])
        volumes[0].write_mask(mask, labels)
        if not self.said["subtypes"]:
            return None
        mass = mass if mass.sum() > 0 else np.ones_like(mass)
        return int((votes * mass[:, None]).sum(0).argmax())

    def _sums(self, x: Array, runtime: "Runtime") -> tuple[Array, Array, Array]:
        """Weighted logits of all tiles ``[C, x, y, z]``; each tile's class logits ``[n, K]`` and foreground ``[n]``."""
        total = np.zeros((self.said["outputs"], *x.shape[1:]), np.float32)
        votes, mass = list[Array](), list[float]()

        def add(box: tuple[slice, ...], outputs: Outputs) -> None:
            segmentation, classification, foreground = outputs
            votes.append(classification[0].copy())
            mass.append(float(foreground.ravel()[0]))
            part = total[(slice(None), *box)]
            list(self.pool.map(lambda rows: _add(part[:, rows], segmentation[0][:, rows]), _parts(part.shape[1])))

        waiting: tuple[tuple[slice, ...], Outputs] | None = None
        for start in self.starts(x.shape[1:]):
            box = tuple(slice(at, at + side) for at, side in zip(start, self.tile, strict=True))
            runtime.submit(x[(slice(None), *box)][None])
            if waiting is not None:  # added up while the next tile is run
                add(*waiting)
            waiting = box, runtime.result()
        assert waiting is not None, "no volume is without tiles"
        add(*waiting)
        return total, np.stack(votes), np.array(mass, np.float32)

    def _labels(self, logits: Array) -> NDArray[np.uint8]:
        """``[x, y, z]``, uint8, of sums of logits; each slab in a thread of its own."""
        labels = np.empty(logits.shape[1:], np.uint8, order="F")

        def label(rows: slice) -> None:
            part = logits[:, rows]
            if not np.isfinite(part.sum(dtype=np.float64)):
                raise CaseError("logits that are not finite; use another precision")
            labels[rows] = self._label(part)

        list(self.pool.map(label, _parts(len(labels))))
        return labels

    def _label(self, logits: Array) -> NDArray[np.uint8]:
        values: NDArray[np.uint8] = np.array(self.said["labels"], np.uint8)
        if self.said["painting"] is None:
            chosen: NDArray[np.uint8] = values[logits.argmax(0)]
            return chosen
        labels = np.zeros(logits.shape[1:], np.uint8)
        for channel in self.said["painting"]:
            labels[logits[channel] > 0] = values[channel]
        return labels


def _add(total: Array, logits: Array) -> None:
    total += logits


def _parts(length: int) -> list[slice]:
    """An axis in parts, for as many threads."""
    edges = np.linspace(0, length, min(_PARTS, length) + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(edges)]


class Runtime(Protocol):
    """Runs one tile after the other."""

    def submit(self, x: Array) -> None:
        """Start a tile, ``[1, C, x, y, z]``."""
        ...

    def result(self) -> Outputs:
        """Wait for it. What was returned the time before may be overwritten with the next tile."""
        ...


def network(folder: Path, precision: str) -> Path:
    """The ONNX file of a precision: FP16 is a flag of the build, INT8 stands in the file."""
    return folder / ("int8.onnx" if precision == "int8" else "fp32.onnx")


def plan_of(folder: Path, precision: str, machine: str) -> Path:
    """Where the engine of a precision is kept, so that it is never another's: by the content of its ONNX file, and by
    GPU, driver and TensorRT, of which `machine` says what they are.
    """
    content = hashlib.sha256(network(folder, precision).read_bytes())
    content.update(machine.encode())
    return folder / f"{precision}-{content.hexdigest()[:16]}.plan"


class OnnxRuntime:
    """The network on a CPU, to try everything else."""

    def __init__(self, folder: Path, precision: str) -> None:
        onnxruntime = import_module("onnxruntime")
        self._session = onnxruntime.InferenceSession(
            str(network(folder, precision)), providers=["CPUExecutionProvider"]
        )

    def submit(self, x: Array) -> None:
        self._outputs = self._session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(x)})

    def result(self) -> Outputs:
        outputs: Outputs = self._outputs
        return outputs


class Cuda:
    """What is needed of CUDA's driver."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._device, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuInit", 0)
        self("cuDeviceGet", ctypes.byref(self._device), 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)  # the one of TensorRT
        self("cuCtxSetCurrent", context)

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status:
            raise SystemExit(f"CUDA: {function} failed with status {status}")

    def __str__(self) -> str:
        """The GPU's name, and the version of CUDA that the driver is for."""
        name, version = ctypes.create_string_buffer(256), ctypes.c_int()
        self("cuDeviceGetName", name, ctypes.sizeof(name), self._device)
        self("cuDriverGetVersion", ctypes.byref(version))
        return f"{name.value.decode(errors='replace')}, driver for CUDA {version.value}"

    def stream(self) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self("cuStreamCreate", ctypes.byref(handle), 1)  # beside the default one
        return handle

    def device_memory(self, size: int) -> ctypes.c_uint64:
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address

    def host_array(self, shape: Sequence[int]) -> Array:
        """In page-locked memory."""
        address, size = ctypes.c_void_p(), 4 * math.prod(shape)
        self("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), 0)
        assert address.value is not None
        return np.frombuffer(memoryview((ctypes.c_char * size).from_address(address.value)), np.float32).reshape(shape)


class TensorRT:
    """The network by TensorRT 8.6. Outputs have two places each, so that one is added up while the other is written."""

    def __init__(self, folder: Path, precision: str) -> None:
        trt = import_module("tensorrt")
        if not trt.__version__.startswith("8.6"):
            raise SystemExit(f"TensorRT {trt.__version__}; this is for 8.6, newer ones have the backends tensorrt-*")
        self._cuda = cuda = Cuda()
        log = trt.Logger(trt.Logger.WARNING)
        plan = plan_of(folder, precision, f"{cuda}, TensorRT {trt.__version__}")
        self._runtime, self._engine = _engine(trt, log, network(folder, precision), plan, precision)
        self._context, self._stream = self._engine.create_execution_context(), cuda.stream()
        shapes = {name: tuple(self._engine.get_tensor_shape(name)) for name in (INPUT, *OUTPUTS)}
        self._device = {name: cuda.device_memory(4 * math.prod(shape)) for name, shape in shapes.items()}
        for name, address in self._device.items():
            self._context.set_tensor_address(name, address.value)
        self._image = cuda.host_array(shapes[INPUT])
        self._outputs = [[cuda.host_array(shapes[name]) for name in OUTPUTS] for _ in range(2)]
        self._turn = 0

    def submit(self, x: Array) -> None:
        np.copyto(self._image, x)
        self._copy("cuMemcpyHtoDAsync_v2", self._device[INPUT], self._address(self._image), self._image.nbytes)
        if not self._context.execute_async_v3(self._stream.value):
            raise CaseError("TensorRT could not run the engine; its log says why")
        self._turn = 1 - self._turn
        for name, output in zip(OUTPUTS, self._outputs[self._turn], strict=True):
            self._copy("cuMemcpyDtoHAsync_v2", self._address(output), self._device[name], output.nbytes)

    def result(self) -> Outputs:
        self._cuda("cuStreamSynchronize", self._stream)
        return self._outputs[self._turn]

    def _copy(self, function: str, to: Any, source: Any, size: int) -> None:
        self._cuda(function, to, source, ctypes.c_size_t(size), self._stream)

    @staticmethod
    def _address(array: Array) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)


def _engine(trt: Any, log: Any, graph: Path, path: Path, precision: str) -> tuple[Any, Any]:
    """The engine at `path`, built where there is none of the ONNX file `graph`."""
    runtime = trt.Runtime(log)
    if not path.is_file():
        data = _built(trt, log, graph, precision)
        path.with_suffix(".unfinished").write_bytes(data)
        path.with_suffix(".unfinished").replace(path)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise SystemExit(f"{path}: not an engine for this machine; delete it")
    report = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    for layer in report.get("Layers", []):
        if isinstance(layer, dict):
            formats = [tensor.get("Format/Datatype") for tensor in layer.get("Inputs", [])]
            print(layer.get("LayerType"), layer.get("Name"), layer.get("TacticName"), formats, file=sys.stderr)
    return runtime, engine


def _built(trt: Any, log: Any, path: Path, precision: str) -> bytes:
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, log)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse_from_file(str(path)):
        raise SystemExit(f"TensorRT cannot parse {path}: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    without = (trt.TacticSource.CUBLAS, trt.TacticSource.CUBLAS_LT, trt.TacticSource.CUDNN)
    config.set_tactic_sources(config.get_tactic_sources() & ~sum(1 << int(source) for source in without))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    if precision != "fp32":
        config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in map(network.get_layer, range(network.num_layers)):  # sums over a tile overflow in FP16
        if layer.type in (trt.LayerType.NORMALIZATION, trt.LayerType.REDUCE, trt.LayerType.SOFTMAX):
            layer.precision = trt.float32
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise SystemExit(f"TensorRT cannot build {path}; its log says why")
    return bytes(data)


RUNTIMES: dict[str, Any] = {"tensorrt": TensorRT, "onnxruntime": OnnxRuntime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16")
    parser.add_argument("--runtime", choices=RUNTIMES, default="tensorrt")
    options = parser.parse_args()
    case, runtime = Case(options.folder), RUNTIMES[options.runtime](options.folder, options.precision)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            number = case.predict(asked["images"], asked["mask"], runtime)
            answer = {"mask": asked["mask"]} if number is None else {"mask": asked["mask"], "class": number}
        except (CaseError, OSError, EOFError, damaged) as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
