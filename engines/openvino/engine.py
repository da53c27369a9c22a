"""OpenVINO on the CPU; INT8 through NNCF's post-training quantization."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engines.base import Availability, ClassCheck, Engine, Evidence, Target
from engines.cache import artefact, key_of
from engines.evidence.mac_counter import layers_for
from engines.host.cpu import weight_bits
from engines.onnx.export import PACKAGES, onnx_file
from engines.openvino.class_check import open_class_check
from engines.openvino.core import core
from engines.openvino.runtime_graph import matched
from engines.probe import check, unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model


class OpenVino(Engine):
    """Compiles an ONNX file of the network for the CPU.

    The tiles of a batch are requests of their own that run side by side, each on its share of the threads: a layer that
    two threads share makes both wait at its end, two tiles do not.
    """

    def probe(self, target: Target) -> Availability:
        available = check(target, self.backend)
        if available.ok and self.backend.precision == "bf16":
            try:
                able = _has_bf16()
            except ImportError:
                return available  # installed and broken: `open` fails with the traceback
            if not able:
                return unavailable("this CPU has no BF16 instructions", "run on a CPU with AVX512-BF16 or AMX")
        return available

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator["OpenVinoSession"]:
        whole, target, check = target.batch, _single(model, target), None
        known: dict[str, Any] = {}
        if self.backend.precision == "int8":
            from engines.openvino.quantize import FILE, SMOOTHING, details_of, write
            from engines.quantization.sensitivity import required_dice

            assert target.calibration is not None, "an INT8 engine was opened without asking its probe"
            used = ("torch", "openvino", "nncf", *PACKAGES)
            bits = weight_bits()
            key = key_of(
                model, target, used, precision="int8", calibration=target.calibration.sha256, weight_bits=bits,
                class_check=model.subtypes > 0, agreement=required_dice(target), regions=model.painting is not None,
                smoothing=SMOOTHING, hint=self._hint(),
            )  # fmt: skip
            built = artefact(target, "openvino-int8", key, lambda folder: write(model, target, folder, self._hint()))
            path, known = built.folder / FILE, {"weight_bits": bits, **details_of(built.folder)}
            check = open_class_check(built.folder, target)
        else:
            path, built = onnx_file(model, target)
        settings = {
            "INFERENCE_PRECISION_HINT": self._hint(),
            "INFERENCE_NUM_THREADS": target.threads,
            "NUM_STREAMS": target.streams or min(whole // target.batch, target.threads),
        }
        compiled = core().compile_model(str(path), "CPU", settings)
        details = {"cached": built.cached, **known}
        yield OpenVinoSession(compiled, model, target, whole // target.batch, details, check)

    def _hint(self) -> str:
        """Precision of whatever is not quantized. The default would be BF16 on every CPU that has it."""
        if self.backend.precision == "int8":
            # BF16 halves the traffic of the norms between the INT8 convolutions: measured in turns, a quarter less time
            # at width 32 and the same at width 8. The logits' error is INT8's own and stays (0.064 against 0.063).
            return "bf16" if _has_bf16() else "f32"
        return {"fp32": "f32", "bf16": "bf16"}[self.backend.precision]


def _single(model: "Model", target: Target) -> Target:
    """The target of one request: a single tile, unless the network is a program that takes one batch only."""
    fixed = model.program is not None and model.program.batch is not None
    return target if fixed else replace(target, batch=1)


def _has_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _empty(requests: int, output: Any) -> "Tensor":
    """An uninitialised tensor for one output of all requests, float32 ``[batch, ...]``."""
    import torch

    part, *sides = output.shape
    return torch.empty(requests * part, *sides)


class OpenVinoSession:
    """Inference requests whose inputs and outputs are shared with PyTorch; every call overwrites the outputs.

    Args:
        target: of one request; `requests`: so many make a batch.
        details: of how it was built, for the evidence.

    Attributes:
        class_check: of INT8, where the network has a classification.
    """

    own_threads = True

    def __init__(
        self, compiled: Any, model: "Model", target: Target, requests: int, details: dict[str, Any],
        class_check: ClassCheck | None,
    ) -> None:  # fmt: skip
        self._compiled, self._target, self._details, self.class_check = compiled, target, details, class_check
        self._layers = layers_for(model, target)
        self._outputs = [_empty(requests, output) for output in compiled.outputs]
        self._requests = [self._request(number) for number in range(requests)]

    def _request(self, number: int) -> Any:
        """The inference request for part `number` of the batch, which writes into its slice of the outputs."""
        import openvino

        request, part = self._compiled.create_infer_request(), self._target.batch
        for index, whole in enumerate(self._outputs):
            place = whole[number * part : (number + 1) * part].numpy()
            request.set_output_tensor(index, openvino.Tensor(place, shared_memory=True))
        return request

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        parts = [part.numpy() for part in torch.split(x.contiguous(), self._target.batch)]  # kept until all have run
        for request, part in zip(self._requests, parts, strict=True):
            request.start_async({0: part}, share_inputs=True)
        for request in self._requests:
            request.wait()
        segmentation, classification = self._outputs
        return segmentation, classification

    def sync(self) -> None:
        """Nothing is left running when `infer` returns."""

    def evidence(self) -> Evidence:
        import openvino

        tally, kernels = matched(self._compiled, self._layers)
        details = {
            "read_from": "precisions and kernels in the compiled model's runtime graph",
            "kernels": sorted(kernels),
            "hint": str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "streams": int(self._compiled.get_property("NUM_STREAMS")),
            "openvino": openvino.__version__,
            **self._details,
        }
        if self.class_check is not None:
            details["class_check_below"] = self.class_check.lead
        devices = "+".join(self._compiled.get_property("EXECUTION_DEVICES"))
        return Evidence(f"openvino {devices}", tally.share(), details)
