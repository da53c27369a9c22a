"""Which convolutions INT8 may have: the least sensitive ones, until the network still says what it said in FP32."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from engines.base import EngineError, Target
from engines.layers import Layer
from engines.quantization.fake_quantization import PERCENTILE, FakeQuantized, Scales, calibrate

# Dice of each foreground label or region between INT8's prediction and FP32's own, summed over the calibration tiles,
# that INT8 must reach; for TensorRT no tile may change its class beside it. Whether accuracy is kept on evaluated
# cases, the run itself shows.
AGREEMENT = 0.99
LEAST_SHARE = 0.5  # of the network's MACs: an engine with less in INT8 would not be called INT8
LABELS = 256  # of a mask, at most


def required_dice(target: Target) -> float:
    """What a target asks of INT8's masks."""
    return AGREEMENT if target.int8_dice is None else target.int8_dice


@dataclass(frozen=True)
class Divergence:
    """What quantized layers change in the network's answers on the calibration tiles.

    Attributes:
        error: ||INT8 - FP32|| / ||FP32|| of the segmentation's logits plus that of the classification's; infinite where
            INT8 gives NaN.
        agreement: the smallest Dice over the foreground labels or regions, against FP32's own.
        changed_classes: tiles whose class is another.
    """

    error: float
    agreement: float
    changed_classes: int

    @property
    def acceptable(self) -> bool:
        return self.agreement >= AGREEMENT and not self.changed_classes and self.error < inf


@dataclass(frozen=True)
class Selection:
    """The layers to quantize, and how they were chosen.

    Attributes:
        layers: to run in INT8.
        fp16: layers that fall back, each with the error that it alone would bring, in the order they fell.
        before, after: with all layers quantized, and with `layers`.
        share: of the network's MACs that `layers` hold.
    """

    layers: tuple[str, ...]
    fp16: Mapping[str, float]
    before: Divergence
    after: Divergence
    share: float

    def details(self) -> dict[str, Any]:
        """For the evidence, as JSON values."""
        return {
            "int8_layers": list(self.layers),
            "fp16_layers_by_sensitivity": dict(self.fp16),
            "error_all_int8": self.before.error,
            "error": self.after.error,
            "agreement_required": AGREEMENT,
            "agreement_all_int8": self.before.agreement,
            "agreement": self.after.agreement,
            "changed_classes_all_int8": self.before.changed_classes,
            "changed_classes": self.after.changed_classes,
        }


def select(
    module: nn.Module, scales: Mapping[str, Scales], batches: Sequence[Tensor], macs: list[Layer],
    regions: bool = False,
) -> Selection:  # fmt: skip
    """Quantize all layers in `scales`, then take back the most sensitive per MAC until the answers are acceptable.

    Partial quantization as in Wu et al. 2020, Integer Quantization for Deep Learning Inference, section 5.4; ranked by
    the error per multiply-accumulate, since a small layer costs little speed in FP16. With `regions` the channels of
    the segmentation are independent of each other, each present where its logit is above 0.

    Raises:
        EngineError: too few multiply-accumulates would be left in INT8, or there is no copy of `module` to try it on.
    """
    cost = Counter[str]()
    for layer in macs:
        cost[layer.name] += layer.macs
    most = _share(scales, cost)
    if most < LEAST_SHARE:
        raise EngineError(f"only {most:.0%} of the multiply-accumulates are worth running in INT8: use FP16")
    network = FakeQuantized(module, scales)
    reference = _answers(module, batches)
    before = after = _divergence(network, scales, batches, reference, regions)
    chosen, fp16 = list(scales), dict[str, float]()
    if not after.acceptable:
        alone = _errors(network, scales, batches, reference)
        for name in _costliest_first(alone, cost):
            chosen.remove(name)
            fp16[name] = alone[name]
            if _share(chosen, cost) < LEAST_SHARE:
                break
            after = _divergence(network, chosen, batches, reference, regions)
            if after.acceptable:
                break
    share = _share(chosen, cost)
    if share < LEAST_SHARE:
        raise EngineError(
            f"INT8 changes too much on the calibration tiles (agreement {before.agreement:.3f} with FP32, "
            f"{AGREEMENT} needed), also with the sensitive half of the network in FP16: use FP16"
        )
    return Selection(tuple(chosen), fp16, before, after, share)


def ranking(module: nn.Module, batches: Sequence[Tensor], cost: Mapping[str, int]) -> list[str]:
    """All convolutions of `module` that run, first the one whose INT8 brings most error for its multiply-accumulates.

    Args:
        cost: multiply-accumulates of each layer.

    Raises:
        EngineError: there is no copy of `module` to try it on.
    """
    convolutions = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv3d) and cost.get(name)]
    scales = calibrate(module, batches, PERCENTILE, convolutions)
    network = FakeQuantized(module, scales)
    return _costliest_first(_errors(network, scales, batches, _answers(module, batches)), cost)


def _errors(
    network: FakeQuantized, scales: Mapping[str, Scales], batches: Sequence[Tensor],
    reference: list[tuple[Tensor, Tensor]],
) -> dict[str, float]:  # fmt: skip
    """The error that each layer alone brings, as of `Divergence`."""
    errors = {}
    for name in scales:
        with network.quantized([name]) as module:
            errors[name] = _error(_answers(module, batches), reference)
    return errors


def _error(answers: list[tuple[Tensor, Tensor]], reference: list[tuple[Tensor, Tensor]]) -> float:
    error = sum(relative_error([a[i] for a in answers], [r[i] for r in reference]) for i in range(2))
    return error if isfinite(error) else inf  # NaN has no place in an order


def _costliest_first(errors: Mapping[str, float], cost: Mapping[str, int]) -> list[str]:
    return sorted(errors, key=lambda name: errors[name] / cost[name], reverse=True)


def _share(names: Iterable[str], cost: Mapping[str, int]) -> float:
    return sum(cost[name] for name in names) / sum(cost.values())


@torch.inference_mode()
def _answers(module: nn.Module, batches: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    answers = []
    for batch in batches:
        segmentation, classification = module(batch)
        answers.append((segmentation.cpu(), classification.cpu()))
    return answers


def _divergence(
    network: FakeQuantized, names: Iterable[str], batches: Sequence[Tensor],
    reference: list[tuple[Tensor, Tensor]], regions: bool = False,
) -> Divergence:  # fmt: skip
    with network.quantized(names) as module:
        answers = _answers(module, batches)
    classes = [
        (a.argmax(1) != r.argmax(1)).sum()
        for (_, a), (_, r) in zip(answers, reference, strict=True)
        if a.shape[1]  # else the network has no classification
    ]
    pairs = ((masks_of(a, regions), masks_of(r, regions)) for (a, _), (r, _) in zip(answers, reference, strict=True))
    return Divergence(_error(answers, reference), least_dice(pairs), int(sum(classes)))


def relative_error(answers: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """||answers - reference|| / ||reference|| over all tensors of both."""
    difference = sum(float((a - r).double().square().sum()) for a, r in zip(answers, reference, strict=True))
    norm = sum(float(r.double().square().sum()) for r in reference)
    return float((difference / max(norm, 1e-30)) ** 0.5)


def masks_of(logits: Tensor, regions: bool) -> Tensor:
    """Masks out of logits ``[B, C, D, H, W]``: where each region is, bool of that shape, or labels ``[B, D, H, W]``.

    A label is the channel with the largest logit, of equal ones the first, as uint8.
    """
    if regions:
        return logits > 0
    # torch.argmax over this axis takes several times as long on a CPU, of few labels fifteen.
    best, labels = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for label in range(1, logits.shape[1]):
        labels.masked_fill_(logits[:, label] > best, label)
        best = torch.maximum(best, logits[:, label])
    return labels


def least_dice(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Dice similarity over all pairs of masks as of `masks_of`, of the region or foreground label with the smallest.

    It is 1 where no mask holds any.
    """
    both, each = (sum(counts) for counts in zip(*starmap(_overlap, pairs), strict=True))
    return float(torch.where(each > 0, 2 * both / each, 1).min())


def _overlap(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels of each region or foreground label in both masks, and in either of them, float64."""
    if own.dtype == torch.bool:
        axes = (0, 2, 3, 4)
        return (own & other).sum(axes).double(), (own.sum(axes) + other.sum(axes)).double()

    def count(labels: Tensor) -> Tensor:
        return torch.bincount(labels.flatten(), minlength=LABELS)[1:].double()

    return count(own[own == other]), count(own) + count(other)
