"""An ONNX file turned into a TensorRT plan: one strongly typed path for TensorRT 10, 11 and TensorRT for RTX.

Strong typing means that the file alone says in which type each tensor is; TensorRT 11 knows nothing else.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.base import EngineError
from engines.cache import write_whole
from engines.layers import UNKNOWN, Operation

_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8"}


@dataclass(frozen=True)
class Plan:
    """A serialized engine.

    Attributes:
        data: its bytes.
        typed: the layers that multiply, in the types that strong typing binds TensorRT to; empty for a graph with Q/DQ
            nodes, where TensorRT itself decides which of them become INT8 kernels.
    """

    data: bytes
    typed: tuple[Operation, ...]


def logger(trt: Any) -> Any:
    """A TensorRT logger: warnings go to stderr, errors also to `first_error`. TensorRT keeps a process's first."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)
            if severity not in (trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE):
                print(f"{trt.__name__}: {message}", file=sys.stderr)

    return Log()


def first_error(log: Any, fallback: object = "TensorRT gave no reason") -> str:
    """The first error that TensorRT logged, as one line: later ones only follow from it."""
    return " ".join(str(log.errors[0] if log.errors else fallback).split())


def build(trt: Any, path: Path, log: Any, timings: Path | None = None) -> Plan:
    """Build the ONNX file at `path` for this machine's GPU; TensorRT for RTX builds without a GPU, too.

    The shapes are the file's own: the harness sends one batch, and a profile over several could only be slower.
    `timings` keeps what TensorRT measured of its tactics from one build to the next.

    Raises:
        EngineError: TensorRT does not start, or refuses the file.
    """
    builder = create(log, lambda: trt.Builder(log), trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{trt.__name__} {trt.__version__} cannot parse {path}: {' '.join(errors.split())}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and an FP32 engine would multiply in TF32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector reports only names
    cache = _timing_cache(config, timings) if timings is not None else None
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise EngineError(f"{trt.__name__} {trt.__version__} cannot build {path}: {first_error(log)}")
    if cache is not None and timings is not None:
        write_whole(timings, bytes(config.get_timing_cache().serialize()))
    return Plan(bytes(data), _typed(trt, network))


def create(log: Any, start: Callable[[], Any], trt: Any) -> Any:
    """Call `start`, which makes one of TensorRT's root objects.

    Raises:
        EngineError: it cannot, mostly because the driver is too old for this TensorRT.
    """
    try:
        made = start()
    except TypeError as error:  # what the bindings raise where the library returned a null pointer
        raise EngineError(f"{trt.__name__} {trt.__version__} does not start: {first_error(log, error)}") from None
    if made is None:
        raise EngineError(f"{trt.__name__} {trt.__version__} does not start: {first_error(log)}")
    return made


def _timing_cache(config: Any, timings: Path) -> Any:
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another TensorRT or GPU
        config.set_timing_cache(cache, False)
    return cache


def _typed(trt: Any, network: Any) -> tuple[Operation, ...]:
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    if any(layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE) for layer in layers):
        return ()
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    return tuple(_operation(layer) for layer in layers if layer.type in kinds)


def _operation(layer: Any) -> Operation:
    first, output = layer.get_input(0), layer.get_output(0)
    return Operation(layer.name, _TYPES.get(first.dtype.name, UNKNOWN), [tuple(first.shape), tuple(output.shape)])
