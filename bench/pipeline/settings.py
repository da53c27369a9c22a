"""What a pipeline from file to file is: its settings, what it reports of a case, and the protocol of all of them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.pipeline.tiles import SIGMA_SCALE, Shape
from models.model import Model, Plans, Transforms
from models.task import PANCREAS
from reports.records.record import Roi


@dataclass(frozen=True)
class Classes:
    """What the classes of a network mean.

    Attributes:
        labels: in the mask, of each class; without `painting` the first is background.
        painting: order in which overlapping regions are painted, later over earlier; None where the likeliest class has
            the voxel.
    """

    labels: tuple[int, ...]
    painting: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How a volume is brought to the network; held equal for every backend of a run.

    Attributes:
        protocol: ``sliding-window`` or ``center-patch``.
        tile: sides of a tile in voxels.
        overlap: share of a tile's side that neighbours have in common.
        batch: tiles in every forward pass.
        roi: name of a strategy in `bench.pipeline.roi.STRATEGIES`.
        window: HU that are mapped to 0 and 1.
        labels: in masks, of each of the network's classes; without `painting` the first is background.
        painting: order in which overlapping regions are painted, as in `models.model.Model`; None for the likeliest.
        channels: images that go into the network together.
        foreground_ml: least volume of the largest piece, and most of all pieces, of what a network finds; None where
            nothing is known of it, and then no `roi` asks the network.
        subtypes: that the network tells apart; 0 where it only segments.
        plans: nnU-Net's preprocessing, in the place of `window`; None for the volume as stored.
        official: whether `plans` are followed by nnU-Net's own functions, in the place of ours.
        bundle: a MONAI bundle's transforms, likewise.
        mirror_axes: of a tile, along which it is mirrored; none without test-time augmentation.
        networks: of an ensemble, 1 without.
        names: of labels, for masks in formats that hold them.
        margin_mm: around what `roi` finds; None for that of the strategy.
    """

    protocol: str
    tile: tuple[int, int, int]
    overlap: float
    batch: int
    roi: str
    window: tuple[float, float]
    labels: tuple[int, ...] = PANCREAS.output_labels
    painting: tuple[int, ...] | None = None
    channels: int = 1
    foreground_ml: tuple[float, float] | None = None
    subtypes: int = 3
    plans: Plans | None = None
    official: bool = False
    bundle: Transforms | None = None
    mirror_axes: tuple[int, ...] = ()
    networks: int = 1
    names: tuple[tuple[int, str], ...] = ()
    margin_mm: float | None = None

    @classmethod
    def of(cls, model: Model, **asked: Any) -> "InferenceSettings":
        """Those that come with a network, beside what is `asked`, which goes first."""
        own: dict[str, Any] = {
            "tile": model.tile,
            "overlap": model.overlap,
            "window": model.window,
            "labels": model.labels,
            "painting": model.painting,
            "channels": model.channels,
            "foreground_ml": model.task.foreground_ml,
            "subtypes": model.subtypes,
            "plans": model.plans,
            "bundle": model.bundle,
            "names": tuple((value, name) for name, value in model.task.labels.items()),
        }
        return cls(**own | asked)

    @property
    def classes(self) -> Classes:
        return Classes(self.labels, self.painting)

    @property
    def merged_apart(self) -> int:
        """Networks of an ensemble whose tiles are added up apart, as nnU-Net does; 1 where their mean is added up."""
        return self.networks if self.plans is not None else 1

    @property
    def sliding_window(self) -> dict[str, Any]:
        """How MONAI's sliding window weights and pads tiles, by its own names: as the bundle's, else by a Gaussian."""
        own = self.bundle
        if own is None:
            return {"mode": "gaussian", "sigma_scale": SIGMA_SCALE, "padding_mode": "constant", "cval": 0.0}
        return {name: getattr(own, name) for name in ("mode", "sigma_scale", "padding_mode", "cval")}

    @property
    def flips(self) -> tuple[tuple[int, ...], ...]:
        """The axes along which each pass over a tile is mirrored: every combination, none of them first.

        The order is that of nnU-Net's predictor (`_internal_maybe_mirror_and_predict`).
        """
        counts = range(1 + len(self.mirror_axes))
        return tuple(axes for count in counts for axes in itertools.combinations(self.mirror_axes, count))


@dataclass(frozen=True)
class Forecast:
    """What a case of some shape will take of memory.

    Attributes:
        prepared: its shape when it is brought to the network.
        preparing: bytes at most until then.
        cuts: the axes along which its logits are taken in parts (`bench.pipeline.merge.Receiver`).
        labelling: bytes that labels take beside the sums of logits.
    """

    prepared: Shape
    preparing: int
    cuts: tuple[int, ...]
    labelling: int


@dataclass(frozen=True)
class CaseClass:
    """The predicted class of a case, and the probability of each class in the network's order."""

    number: int
    probabilities: tuple[float, ...]

    @property
    def lead(self) -> float:
        """How far the logit of this class lies above the next: the logarithm of the ratio of their probabilities."""
        *_, second, first = sorted((0.0, *self.probabilities))
        return math.log(first / second) if second > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class CaseTiming:
    """The nanoseconds that a case took from the file on disk to the mask on disk, and what was run for it.

    Attributes:
        subtype: predicted class; None where the network has no classification.
        tiles: that went through the network; each mirrored pass over one counts, an ensemble's networks do not.
        case_ns: from file to file.
        stages_ns: of it, by stage: ``read``, ``preprocess``, ``roi``, ``forward``, ``stitch`` and ``write``.
        device_ns: of all forwards, by device events; None on a CPU.
        roi: None where the whole volume was asked for.
        class_checked: whether the class was uncertain, and computed again in FP32.
    """

    subtype: int | None
    tiles: int
    case_ns: int
    stages_ns: dict[str, int]
    device_ns: int | None = None
    roi: Roi | None = None
    class_checked: bool = False


class CasePipeline(Protocol):
    """A pipeline from file to file: ours (`bench.pipeline.pipeline`) or a reference pipeline (`bench.peers`)."""

    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """Predict the case whose channels are in `image_paths`, write its mask to `mask_path`, and time both.

        Raises:
            InputError: the image cannot be read, or the mask not be written.
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        ...
