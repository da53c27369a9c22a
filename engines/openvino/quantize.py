"""A network in INT8 for OpenVINO, by NNCF; layers stay in float where INT8 would change the masks too much."""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import EngineError, Target
from engines.evidence.mac_counter import layers_for
from engines.host.cpu import weight_bits
from engines.layers import INPUT
from engines.onnx.export import calibration_batches, onnx_file
from engines.openvino.class_check import write_class_check
from engines.openvino.core import core
from engines.openvino.runtime_graph import matched
from engines.quantization import sensitivity

if TYPE_CHECKING:
    from torch import Tensor

    from engines.layers import Layer
    from models.model import Model

FILE, _REPORT = "int8.xml", "quantization.json"
# How much of the channels' unlike ranges goes from a convolution's input into its weights: SmoothQuant's alpha (Xiao et
# al. 2023, equation 4). Of an nnU-Net it halves the error of the logits (`scripts/benchmark_smoothing.py`).
SMOOTHING = 0.5
_RANKED = 8  # calibration tiles by which layers are ranked: a pass for each layer, of a wide network seconds a tile


def write(model: "Model", target: Target, folder: Path, hint: str) -> None:
    """Write ``int8.xml`` and its weights into `folder`, what is known of them, and what checks their classes.

    Where a label or region of the calibration tiles falls below the Dice with FP32's that the target requires, layers
    go back to `hint`, the precision of whatever is not quantized: those that cost most error per multiply-accumulate,
    twice as many each time. Where half of the multiply-accumulates do not suffice, which is tried first, or nothing
    ranks the layers since the network cannot be copied, all stay in INT8, and the run shows what that costs.
    """
    os.environ.setdefault("NNCF_CI", "1")  # before the import: NNCF reports its use over the network otherwise
    path, _ = onnx_file(model, target)
    batches = calibration_batches(model, target)
    layers, regions, required = layers_for(model, target), model.painting is not None, sensitivity.required_dice(target)
    with redirect_stdout(sys.stderr):  # NNCF's progress bars
        import openvino

        quantizer = _Quantizer(path, batches, hint, regions, layers)
        chosen = whole = quantizer.quantized()
        ranked = _ranked(model, layers, batches) if whole.agreement < required else None
        if ranked is not None:
            chosen = _with_layers_in_float(quantizer, ranked, required) or whole
        if model.subtypes:
            write_class_check(folder, path, chosen.classes - quantizer.exact_classes)
        openvino.save_model(chosen.network, str(folder / FILE), compress_to_fp16=False)
    details = {
        "agreement_required": required,
        "agreement_all_int8": whole.agreement,
        "agreement": chosen.agreement,
        "layers_in_float": chosen.in_float,
    }
    (folder / _REPORT).write_text(json.dumps(details))


def details_of(folder: Path) -> dict[str, Any]:
    """What is known of the network in `folder`, for the evidence."""
    details: dict[str, Any] = json.loads((folder / _REPORT).read_text())
    return details


@dataclass(frozen=True)
class _Ranked:
    """Layers of a network.

    Attributes:
        names: those that run, first the one whose INT8 costs most error per multiply-accumulate.
        most: so many of them hold no more multiply-accumulates than may leave INT8.
    """

    names: list[str]
    most: int


def _ranked(model: "Model", layers: "Sequence[Layer]", batches: "Sequence[Tensor]") -> _Ranked | None:
    """None of a program, which has no layers to be tried alone, and of a network that cannot be copied."""
    if model.program is not None:
        return None
    cost = Counter[str]()
    for layer in layers:
        cost[layer.name] += layer.macs
    try:
        names = sensitivity.ranking(model.module, batches[:_RANKED], cost)
    except EngineError:
        return None
    held = accumulate(cost[name] for name in names)
    return _Ranked(names, sum(macs <= (1 - sensitivity.LEAST_SHARE) * cost.total() for macs in held))


@dataclass(frozen=True)
class _Quantized:
    """A network in INT8, and what it does to the calibration tiles.

    Attributes:
        network: an `openvino.Model`.
        in_float: names of the layers that were left so.
        agreement: the least Dice of a label or region between its masks of all tiles and FP32's.
        share: of the multiply-accumulates that run in INT8; a layer in float may take neighbours with it.
        classes: its logits of the classification, ``[N, K]``.
    """

    network: Any
    in_float: list[str]
    agreement: float
    share: float
    classes: "Tensor"


def _with_layers_in_float(quantizer: "_Quantizer", ranked: _Ranked, required: float) -> _Quantized | None:
    """The first that agrees with FP32 with ever more layers in float; None where too little would be left in INT8."""
    last = quantizer.quantized(ranked.names[: ranked.most])
    if last.agreement < required:
        return None  # at once: each attempt takes minutes of a wide network
    number = 1
    while number < ranked.most:
        candidate = quantizer.quantized(ranked.names[:number])
        if candidate.agreement >= required or candidate.share < sensitivity.LEAST_SHARE:
            break
        number *= 2
    else:
        candidate = last
    return candidate if candidate.share >= sensitivity.LEAST_SHARE else None


class _Quantizer:
    """Quantizes one ONNX file, and compares what comes of it with FP32."""

    def __init__(
        self, path: Path, batches: "Sequence[Tensor]", hint: str, regions: bool, layers: "Sequence[Layer]"
    ) -> None:
        import torch

        self._path, self._batches, self._hint, self._regions, self._layers = path, batches, hint, regions, layers
        exact = core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        masks, classes = zip(*self._answers(exact), strict=True)
        self._exact_masks, self.exact_classes = masks, torch.cat(classes)

    def quantized(self, in_float: Sequence[str] = ()) -> _Quantized:
        """The network with these layers in float.

        The MIXED preset takes asymmetric activations; norms (MVN) stay in float, without which the small lesion
        class suffers; so does the classification head, whose few MACs are not worth its accuracy. Channels of an
        activation share one scale, so that they are brought nearer to each other before. Where the processor cuts off
        sums of products, all weights take 7 bits: NNCF's default does so in the first layer only.
        """
        import nncf
        import torch

        network = nncf.quantize(
            core().read_model(str(self._path)),
            nncf.Dataset(self._batches, lambda batch: {INPUT: batch.numpy()}),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,  # for which alone NNCF smooths, convolutions too
            ignored_scope=nncf.IgnoredScope(
                types=["MVN", "MatMul"], patterns=_patterns(self._path, in_float), validate=False
            ),
            subset_size=len(self._batches),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE if weight_bits() == 7 else None,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=SMOOTHING, matmul=-1),
            ),
        )
        compiled = core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": self._hint})
        masks, classes = zip(*self._answers(compiled), strict=True)
        return _Quantized(
            network=network,
            in_float=list(in_float),
            agreement=sensitivity.least_dice(zip(masks, self._exact_masks, strict=True)),
            share=matched(compiled, self._layers)[0].share().get("int8", 0.0),
            classes=torch.cat(classes),
        )

    def _answers(self, compiled: Any) -> "Iterator[tuple[Tensor, Tensor]]":
        """Of each batch the masks, as small as they can be kept, and the logits of the classification."""
        import torch

        for batch in self._batches:
            segmentation, classification = (torch.from_numpy(output) for output in compiled(batch.numpy()).values())
            yield sensitivity.masks_of(segmentation, self._regions), classification


def _patterns(path: Path, layers: Collection[str]) -> list[str]:
    """The nodes of convolutions with the weights of `layers`, as OpenVINO calls them: a bias is a node of its own."""
    import onnx

    weights = {f"{name}.weight" for name in layers}
    nodes = onnx.load(str(path), load_external_data=False).graph.node if weights else []
    return [
        f"{re.escape(node.name)}(/WithoutBiases)?"
        for node in nodes
        if node.op_type == "Conv" and node.input[1] in weights
    ]
