"""The tiles of nnU-Net's predictor (`nnunetv2.inference`): their grid, their weights, their sums."""

import torch
from torch import Tensor

from bench.data.blocks import slabs
from bench.pipeline import tiles
from bench.pipeline.merge import Merger, Part, Receiver
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Grid, Shape
from models.suppress import suppress_output

_SLAB = 2**16  # voxels, of which the product and the sum stay in the cache
_PEAK = 10  # of a tile's weights: the predictor's value_scaling_factor


class NnUNetTiling:
    """The tiles and the Gaussian weights of nnU-Net's predictor."""

    def __init__(self, settings: InferenceSettings, device: torch.device) -> None:
        with suppress_output():
            from nnunetv2.inference.sliding_window_prediction import compute_gaussian

        self._settings = settings
        self._weights = compute_gaussian(settings.tile, sigma_scale=1 / 8, value_scaling_factor=_PEAK, device=device)
        self.precision = self._weights.dtype

    def grid(self, shape: Shape) -> Grid:
        """Tiles with a step of at most ``(1 - overlap) x tile``, the same all along an axis."""
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

        tile = self._settings.tile
        padded = tuple(max(n, side) for n, side in zip(shape, tile, strict=True))
        return tiles.grid_of(shape, tile, compute_steps_for_sliding_window(padded, tile, 1 - self._settings.overlap))

    def merger(self, grid: Grid, receiver: Receiver | None = None) -> Merger:
        return HalfMerger(grid, self._weights, self._settings, receiver)


class HalfMerger(Merger):
    """Adds tiles up in float16, and divides by the weights, as nnU-Net's predictor, so that ties come out alike.

    So do the networks of an ensemble: each has sums of its own, of which the mean is taken in float16.
    """

    def _finished(self, part: Part) -> Tensor:
        return self._mean(part)

    @torch.inference_mode()
    def _mean(self, part: Part) -> Tensor:
        means = super()._mean(part)
        if self._networks == 1:
            return means
        total, *others = torch.chunk(means, self._networks)
        for other in others:
            total += other
        return total.div_(self._networks)

    def _add_tile(self, total: Tensor, logits: Tensor, weights: Tensor) -> None:
        if total.device.type != "cpu":
            total += logits * weights
            return
        weights = weights.float()  # what PyTorch does at each use of them
        classes = max(1, _SLAB // weights.numel())  # at a time
        for some, tile in zip(torch.split(total, classes), torch.split(logits, classes), strict=True):
            for rows in slabs(tuple(weights.shape), _SLAB):
                added = some[:, rows].float()
                added += tile[:, rows] * weights[rows]
                some[:, rows] = added
