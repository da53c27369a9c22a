"""What smoothing brings to INT8 on the CPU: the agreement with FP32 and the time of a tile, with it and without.

    python scripts/benchmark_smoothing.py RUN [--cases 8] [--rounds 5] [--threads N]

RUN is a folder of `bench run` with the variant `openvino-int8`. Its network is quantized twice on that run's
calibration tiles, every layer in INT8: with `engines.openvino.quantize.SMOOTHING` and without. Tiles come from the
evaluated cases, the middle one of each. In each round every tile goes once through each engine, in random order. Told
are the least Dice of a label between the masks of a tile and FP32's, the error of the logits
``||INT8 - FP32|| / ||FP32||``, and the ratio of times in a round, of which the median and the range are shown.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor

import engines
from bench.machine.host import describe
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import triple
from bench.plan.opening import of_run
from bench.progress import Unshown
from engines.base import Session, Target
from engines.openvino import quantize
from engines.quantization.sensitivity import least_dice, masks_of, relative_error
from models.load import load_models
from models.model import Model
from reports.records.store import read_run

VARIANT = "openvino-int8"
WITH, WITHOUT = "smoothed", "not smoothed"


def middle_tile(images: list[Path], settings: InferenceSettings) -> Tensor:
    """``[1, C, D, H, W]``, as the network takes it."""
    preprocessor, tiling = preparation_of(settings, torch.device("cpu"))
    volume, _ = preprocessor.prepare(preprocessor.read(images))
    grid = tiling.grid(triple(volume.shape[1:]))
    return grid.pad(volume)[(slice(None), *grid.boxes[len(grid.boxes) // 2])][None]


@contextmanager
def opened(model: Model, target: Target, smoothing: float) -> Iterator[Session]:
    """The network in INT8, every layer of it, quantized anew."""
    usual, quantize.SMOOTHING = quantize.SMOOTHING, smoothing
    try:
        with (
            tempfile.TemporaryDirectory() as cache,
            engines.load(VARIANT).open(model, replace(target, cache=Path(cache), int8_dice=0.0)) as session,
        ):
            yield session
    finally:
        quantize.SMOOTHING = usual


def logits_of(session: Session, tiles: list[Tensor]) -> list[Tensor]:
    return [session.infer(tile)[0].clone() for tile in tiles]


def show_agreement(name: str, ours: list[Tensor], exact: list[Tensor], regions: bool) -> None:
    dice = [least_dice([(masks_of(a, regions), masks_of(b, regions))]) for a, b in zip(ours, exact, strict=True)]
    error = relative_error(ours, exact)
    print(f"{name:14} least Dice of a tile {min(dice):.4f}, mean {fmean(dice):.4f}; error {error:.4f}")


def seconds(sessions: Mapping[str, Session], tiles: list[Tensor]) -> dict[str, float]:
    """Of each session over all tiles, in random order."""
    taken = dict.fromkeys(sessions, 0.0)
    for tile in tiles:
        for name in random.sample(list(sessions), len(sessions)):
            start = time.perf_counter()
            sessions[name].infer(tile)
            taken[name] += time.perf_counter() - start
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help=f"a folder of `bench run` with {VARIANT}")
    parser.add_argument("--cases", type=int, default=8, help="of which a tile is taken (8)")
    parser.add_argument("--rounds", type=int, default=5, help="of timing (5)")
    parser.add_argument("--threads", type=int, help="default: as the run")
    options = parser.parse_args()
    asked, record = of_run(options.run, VARIANT, Unshown(), options.threads).open, read_run(options.run).record
    target, root = replace(asked.target, batch=1), Path(record.data.root)
    print(f"instruction sets: {describe('cpu').cpu_features}")
    with load_models([asked.checkpoint], asked.model_options, asked.widen_to) as (model,), ExitStack() as stack:
        tiles = [
            middle_tile([root / image for image in case.images], asked.settings)
            for case in record.cases[: options.cases]
        ]
        with engines.load("openvino-fp32").open(model, target) as session:
            exact = logits_of(session, tiles)
        sessions = {
            WITH: stack.enter_context(opened(model, target, quantize.SMOOTHING)),
            WITHOUT: stack.enter_context(opened(model, target, -1)),
        }
        for name, session in sessions.items():
            show_agreement(name, logits_of(session, tiles), exact, model.painting is not None)
        rounds = [seconds(sessions, tiles) for _ in range(options.rounds)]
    ratios = [each[WITH] / each[WITHOUT] for each in rounds]
    print(f"time, {WITH} / {WITHOUT}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"a tile, {WITHOUT}: {1000 * median(each[WITHOUT] for each in rounds) / len(tiles):.0f} ms")


if __name__ == "__main__":
    main()
