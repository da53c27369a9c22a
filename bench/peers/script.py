"""The plain script that people write: nibabel and numpy around a loop over tiles, and the network under no_grad.

It reads float64, normalises the whole volume, runs one tile in a pass, brings each tile's logits back to numpy, adds
them up there by Gaussian weights, takes the argmax and lets nibabel save the mask.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.machine.clock import Stopwatch
from bench.peers.session import PeerSession, mirrored
from bench.pipeline.finite import TileCounts, is_finite, of_case, overflow
from bench.pipeline.merge import foreground_mass, vote
from bench.pipeline.settings import CaseTiming, InferenceSettings
from engines.base import Target
from engines.placement import placed
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import synchronize, torch_settings

if TYPE_CHECKING:
    from models.model import Model

Array = NDArray[Any]


class Script(TorchEngine):
    """Opens the script."""

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[PeerSession]:
        network = model.module
        details = {
            "way": "nibabel get_fdata (float64), numpy clip and scale, a loop over tiles under no_grad, Gaussian "
            "weights and sums in numpy, argmax, nibabel save",
            "batch": 1,
        }
        with torch_settings(target), placed(network, target.device):
            case_pipeline = partial(ScriptPipeline, network, target.device)
            yield PeerSession(network, model, replace(target, batch=1), case_pipeline, details)


class ScriptPipeline:
    """From file to file by numpy."""

    def __init__(self, network: nn.Module, device: str, settings: InferenceSettings) -> None:
        self._network = mirrored(network, settings)
        self._device = device
        self._settings = settings
        self._weights = _gaussian(settings.tile)
        self._image: Any = nib.Nifti1Image  # which carries no types
        self._squeezed: Any = nib.squeeze_image

    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """Predict the case whose channels are in `image_paths`, write its mask to `mask_path`, and time both.

        Raises:
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        watch = Stopwatch(partial(synchronize, self._device))
        tile, (low, high) = self._settings.tile, self._settings.window
        start = time.perf_counter_ns()
        with watch.stage("read"):
            niftis: list[Any] = [nib.load(path) for path in image_paths]
            niftis = [nifti if len(nifti.shape) == 3 else self._squeezed(nifti) for nifti in niftis]
            volume = np.stack([nifti.get_fdata() for nifti in niftis])
            volume = volume if volume.ndim == 4 else np.moveaxis(volume[0], -1, 0)  # channels in one file
        with watch.stage("preprocess"):
            volume = (np.clip(volume, low, high) - low) / (high - low)
            short = [max(side - n, 0) for n, side in zip(volume.shape[1:], tile, strict=True)]
            padded = np.pad(volume, [(0, 0), *((missing // 2, missing - missing // 2) for missing in short)])
        logits, votes, foreground = self._loop(padded, watch)
        with watch.stage("stitch"), of_case(image_paths[0]):
            if not (is_finite(torch.from_numpy(logits)) and np.isfinite(votes).all()):
                counts = TileCounts(self._settings.subtypes > 0)
                self._loop(padded, watch, counts)
                raise counts.error(overflow(torch.float32))
            inside = tuple(slice(gap // 2, gap // 2 + n) for gap, n in zip(short, volume.shape[1:], strict=True))
            labels = self._labels(logits)[inside]
            mass = torch.tensor(foreground, dtype=torch.float64)
            subtype = vote(torch.tensor(np.array(votes)), mass) if self._settings.subtypes else None
        with watch.stage("write"):
            nib.save(self._image(labels, niftis[0].affine), mask_path)
        case_ns = time.perf_counter_ns() - start
        tiles = len(self._settings.flips) * len(votes)
        return CaseTiming(subtype=subtype, tiles=tiles, case_ns=case_ns, stages_ns=watch.stages_ns)

    def _loop(
        self, volume: Array, watch: Stopwatch, counts: TileCounts | None = None
    ) -> tuple[Array, list[Array], list[float]]:
        """Mean logits ``[C, D, H, W]``; each tile's classification, and its mean foreground probability."""
        tile = self._settings.tile
        with watch.stage("stitch"):
            total = np.zeros((len(self._settings.labels), *volume.shape[1:]), np.float32)
            weight = np.zeros(volume.shape[1:], np.float32)
        votes, foreground = [], []
        for corner in itertools.product(*_starts(volume.shape[1:], tile, self._settings.overlap)):
            with watch.stage("stitch"):
                box = tuple(slice(first, first + side) for first, side in zip(corner, tile, strict=True))
                x = torch.from_numpy(volume[(slice(None), *box)].astype(np.float32))[None].to(self._device)
            with watch.stage("forward", device=True), torch.no_grad():
                segmentation, classification = self._network(x)
            if counts is not None:
                counts.add(segmentation, classification)
            with watch.stage("stitch"):
                logits = segmentation[0].cpu().numpy()
                total[(slice(None), *box)] += logits * self._weights
                weight[box] += self._weights
                if self._settings.subtypes:
                    foreground.append(float(foreground_mass(segmentation, self._settings.painting is not None)))
                votes.append(classification[0].cpu().numpy())
        with watch.stage("stitch"):
            return total / weight, votes, foreground

    def _labels(self, logits: Array) -> Array:
        if self._settings.painting is None:
            likeliest: Array = np.argmax(logits, axis=0).astype(np.uint8)
            return likeliest
        labels = np.zeros(logits.shape[1:], np.uint8)
        for channel in self._settings.painting:
            labels[logits[channel] > 0] = self._settings.labels[channel]
        return labels


def _starts(shape: tuple[int, ...], tile: tuple[int, int, int], overlap: float) -> list[list[int]]:
    """First voxels of the tiles along each axis; the last tile ends with the volume."""
    starts = []
    for n, side in zip(shape, tile, strict=True):
        step = max(int(side * (1 - overlap)), 1)
        starts.append([*range(0, n - side, step), n - side])
    return starts


def _gaussian(tile: tuple[int, int, int]) -> Array:
    """Weights of a tile's voxels, 1 at its middle, with a standard deviation of an eighth of each side."""
    axes = [np.arange(side) - (side - 1) / 2 for side in tile]
    x, y, z = (np.exp(-(at**2) / (2 * (len(at) / 8) ** 2)) for at in axes)
    weights: Array = np.maximum(x[:, None, None] * y[:, None] * z, 1e-3).astype(np.float32)
    return weights
