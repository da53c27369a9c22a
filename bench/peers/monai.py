"""MONAI's transforms and sliding window around PyTorch, in FP32 or under autocast, as its tutorials put them together.

LoadImage, ScaleIntensityRange, SlidingWindowInferer with Gaussian weights, AsDiscrete, SaveImage; of a bundle its own
transforms and inferer between LoadImage and SaveImage. MONAI's inferers mirror nothing: with test-time augmentation the
network that they call does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.space import Space
from bench.data.volume import read_space
from bench.machine.clock import Stopwatch
from bench.peers.session import PeerSession, Voting, mirrored, windows
from bench.pipeline.bundle.transforms import IMAGE, PREDICTION, built, labels_of
from bench.pipeline.finite import of_case
from bench.pipeline.label_map import paint
from bench.pipeline.settings import CaseTiming, InferenceSettings
from bench.pipeline.tiles import SIGMA_SCALE
from engines.base import Availability, Target
from engines.placement import placed
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import check_half, half_of, synchronize, torch_settings

if TYPE_CHECKING:
    from models.model import Model, Transforms

_SUFFIX = ".nii.gz"


class Monai(TorchEngine):
    """Opens MONAI's way."""

    def probe(self, target: Target) -> Availability:
        return check_half(target, self.backend) if self.backend.precision == "half" else super().probe(target)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[PeerSession]:
        half = half_of(target) if self.backend.precision == "half" else None
        network = model.module

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            with _autocast(target, half):
                segmentation, classification = network(x)
            return segmentation.float(), classification.float()

        details = {
            "monai": version("monai"),
            "way": _way_of(model),
            "autocast": str(half).removeprefix("torch.") if half else "off",
            "stages": "forward is the network, stitch the rest of SlidingWindowInferer, AsDiscrete and the class"
            if not target.on_cuda
            else "forward is all of SlidingWindowInferer, stitch AsDiscrete and the class",
        }
        with torch_settings(target), placed(network, target.device):
            case_pipeline = partial(MonaiPipeline, network, target, half)
            yield PeerSession(forward, model, target, case_pipeline, details)


class MonaiPipeline:
    """From file to file by MONAI."""

    def __init__(
        self, network: nn.Module, target: Target, half: torch.dtype | None, settings: InferenceSettings
    ) -> None:
        transforms: Any = import_module("monai.transforms")  # MONAI's packages do not export by the rules of mypy
        self._target = target
        self._half = half
        self._network = Voting(mirrored(network, settings), settings)
        self._passes = len(settings.flips)  # over each tile
        self._way = _AsStored(settings) if settings.bundle is None else _AsBundled(settings.bundle, settings)
        self._inferer = import_module("monai.inferers").SlidingWindowInferer(
            settings.tile, settings.batch, settings.overlap, **settings.sliding_window
        )
        self._load = transforms.LoadImage(image_only=True, ensure_channel_first=True)
        self._save = transforms.SaveImage(output_ext=_SUFFIX, output_dtype=np.uint8, resample=False, print_log=False)

    @torch.no_grad()
    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """Predict the case whose channels are in `image_paths`, write its mask to `mask_path`, and time both.

        Raises:
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        watch, space = Stopwatch(partial(synchronize, self._target.device)), read_space(image_paths[0])
        start = time.perf_counter_ns()
        with watch.stage("read"):
            volume = self._load([str(path) for path in image_paths])
            volume = _in_force(volume, space)
        with watch.stage("preprocess", device=True):
            x = self._way.prepare(volume).unsqueeze(0).to(self._target.device)

        def infer() -> Tensor:
            with _autocast(self._target, self._half):
                logits: Tensor = self._inferer(x, self._network)
                return logits

        with windows(watch, self._network, self._target):
            logits = infer()
        with watch.stage("stitch", device=True), of_case(image_paths[0]):
            self._network.refuse_not_finite(logits, infer)
            labels = self._way.labels(logits[0], volume)
            subtype = self._network.subtype()
        with watch.stage("write"):
            self._save(labels, filename=str(mask_path).removesuffix(_SUFFIX))
        case_ns = time.perf_counter_ns() - start
        tiles = self._passes * self._network.tiles
        return CaseTiming(subtype=subtype, tiles=tiles, case_ns=case_ns, stages_ns=watch.stages_ns)


class _AsStored:
    """The volume as its file has it, through the window."""

    def __init__(self, settings: InferenceSettings) -> None:
        transforms: Any = import_module("monai.transforms")
        low, high = settings.window
        self.prepare = transforms.ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)
        self._discrete = _discrete(settings, transforms)

    def labels(self, logits: Tensor, _volume: Any) -> Any:
        """The mask ``[1, D, H, W]`` with its affine, from logits ``[C, D, H, W]``."""
        return self._discrete(logits)


class _AsBundled:
    """By a bundle's own transforms and inferer."""

    def __init__(self, bundle: "Transforms", settings: InferenceSettings) -> None:
        self._settings = settings
        self._before = built(bundle.preprocessing, (IMAGE,))
        self._after = built(bundle.postprocessing, (PREDICTION,), self._before)
        self._image: Any = None

    def prepare(self, volume: Any) -> Any:
        self._image = self._before({IMAGE: volume})[IMAGE]
        return self._image

    def labels(self, logits: Tensor, volume: Any) -> Any:
        """The mask ``[1, D, H, W]`` with its affine, from logits ``[C, D, H, W]``."""
        after = self._after({IMAGE: self._image, PREDICTION: logits})[PREDICTION]
        mask = labels_of(after.as_tensor(), self._settings)[None]
        return import_module("monai.data").MetaTensor(mask).copy_meta_from(volume, copy_attr=False)


def _way_of(model: "Model") -> str:
    if model.bundle is None:
        before, after = "ScaleIntensityRange", "AsDiscrete"
        weights = f"Gaussian, sigma_scale {SIGMA_SCALE}"
    else:
        before = ", ".join(name for name, _ in model.bundle.preprocessing)
        after = ", ".join(name for name, _ in model.bundle.postprocessing)
        weights = f"{model.bundle.mode}, as the bundle's inferer"
    return f"LoadImage, {before}, SlidingWindowInferer ({weights}) under no_grad, {after}, SaveImage"


def _discrete(settings: InferenceSettings, transforms: Any) -> Callable[[Tensor], Tensor]:
    """From logits ``[C, D, H, W]`` to labels ``[1, D, H, W]``."""
    painting = settings.painting
    if painting is None:
        discrete: Callable[[Tensor], Tensor] = transforms.AsDiscrete(argmax=True)
        return discrete
    regions = transforms.Compose([transforms.Activations(sigmoid=True), transforms.AsDiscrete(threshold=0.5)])

    def painted(logits: Tensor) -> Tensor:
        masks = regions(logits)
        labels = torch.zeros_like(masks[:1])
        paint(masks, settings.labels, painting, labels[0])
        return labels

    return painted


def _in_force(volume: Any, space: Space) -> Any:
    """MONAI takes the qform where `pixdim` contradicts the sform, and a second axis of length 1 behind the third."""
    if volume.shape[1:] != space.shape:
        volume = volume.reshape(volume.shape[0], *space.shape)
    if not Space(space.shape, np.asarray(volume.affine)).lies_on(space):
        volume.affine = torch.from_numpy(space.affine)
    return volume


def _autocast(target: Target, half: torch.dtype | None) -> torch.autocast:
    return torch.autocast(torch.device(target.device).type, half, enabled=half is not None)
