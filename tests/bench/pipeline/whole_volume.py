"""The logits of a whole volume, which the pipeline itself never asks for."""

import torch
from torch import Tensor

from bench.machine.clock import Stopwatch
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import TileRunner
from bench.pipeline.tiles import triple
from engines.base import Session


def logits_of(session: Session, settings: InferenceSettings, volume: Tensor) -> Tensor:
    """Merged logits ``[C, D, H, W]`` of all tiles of a prepared ``[C, D, H, W]`` volume."""
    device = torch.device("cpu")
    _, tiling = preparation_of(settings, device)
    grid = tiling.grid(triple(volume.shape[1:]))
    merger = tiling.merger(grid)
    TileRunner(session, settings, device, Stopwatch(lambda: None)).run(grid.pad(volume), grid.boxes, merger.aggregate)
    return merger.finalize()
