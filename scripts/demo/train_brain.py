"""Train the network of the brain demo on its made-up training cases and write its checkpoint.

    python scripts/demo/train_brain.py              # 17 minutes on one thread of a busy machine of two cores
    python scripts/demo/train_brain.py --evaluate   # accuracy of the shipped checkpoint, whole volumes

The network is the reference's U-Net at width 8 with three poolings, two channels, three overlapping regions and no
classification. Its weights are stored in half precision, which halves the file; what is evaluated has them rounded so.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout that is not installed

from monai.inferers.utils import sliding_window_inference

from bench.accuracy import dsc
from bench.demo import CHECKPOINTS
from bench.demo.brain import CHANNELS, REGIONS, TASK, WINDOW, draw_head
from bench.imports import environment
from models.load import build_model, read_checkpoint
from models.networks.unet import MultiTaskUNet, Shape

SHAPE = Shape(width=8, poolings=3, channels=len(CHANNELS), classes=len(REGIONS), subtypes=0)
TILE, SMALL_TILE = 64, 48  # voxels; norms take their statistics over a tile, so the last steps see whole ones
SMALL = 0.85  # share of the steps, the first, on small tiles, which cost less than half
TUMOUR = 0.5  # share of the tiles that lie around a voxel of the tumour; the others lie anywhere
FLIPS = 3  # axes along which half of the tiles are flipped
VALIDATION_CASES = 36


@dataclass(frozen=True)
class Volume:
    """Images in [0, 1], float16 ``[C, x, y, z]``, labels ``[x, y, z]`` and the tumour's voxel indices ``[N, 3]``."""

    images: NDArray[np.float16]
    labels: NDArray[np.uint8]
    tumour: NDArray[np.int64]


def load(index: int, *, split: str, seed: int) -> Volume:
    """Draw a case and prepare it for the network."""
    case, (low, high) = draw_head(split, index, seed=seed), WINDOW
    images = np.stack([(np.clip(np.round(image), low, high) - low) / (high - low) for image in case.images])
    return Volume(images.astype(np.float16), case.labels, np.argwhere(case.labels > 0))


def load_volumes(split: str, count: int, seed: int) -> list[Volume]:
    """Draw the first ``count`` cases of a split, two at a time."""
    os.environ.update(environment())
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(load, split=split, seed=seed), range(count), chunksize=4))


def regions_of(labels: Tensor) -> Tensor:
    """The truth of each region, ``[B, R, ...]`` of 0 and 1, from labels ``[B, ...]``."""
    return torch.stack([torch.isin(labels, torch.tensor(values)) for values in REGIONS.values()], 1).float()


def draw_batch(volumes: list[Volume], count: int, tile: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Tiles ``[B, C, tile, tile, tile]`` and their labels ``[B, tile, tile, tile]``."""
    tiles, truth = [], []
    for _ in range(count):
        volume = volumes[int(rng.integers(len(volumes)))]
        sides = volume.labels.shape
        centre: NDArray[np.int64] = rng.integers(0, sides)
        if rng.random() < TUMOUR:
            centre = volume.tumour[int(rng.integers(len(volume.tumour)))] + rng.integers(-20, 21, 3)
        first = [int(np.clip(c - tile // 2, 0, side - tile)) for c, side in zip(centre, sides, strict=True)]
        box = tuple(slice(start, start + tile) for start in first)
        flips = [axis for axis in range(FLIPS) if rng.random() < 0.5]
        tiles.append(torch.from_numpy(volume.images[(slice(None), *box)]).float().flip([axis + 1 for axis in flips]))
        truth.append(torch.from_numpy(volume.labels[box]).flip(flips))
    return torch.stack(tiles), torch.stack(truth)


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of each region plus its soft Dice over the batch."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * truth).sum((0, 2, 3, 4)) + 50
    dice = overlap / (chance.sum((0, 2, 3, 4)) + truth.sum((0, 2, 3, 4)) + 50)
    return 2 * functional.binary_cross_entropy_with_logits(logits, truth) + 1 - dice.mean()


def train(volumes: list[Volume], steps: int, seed: int, out: Path) -> None:
    """Train from scratch; ``out`` is written every 100 steps, so that a stopped training leaves a checkpoint."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = MultiTaskUNet(shape=SHAPE)
    assert network.seg_out.bias is not None
    nn.init.constant_(network.seg_out.bias, -3.0)  # regions are small
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps, pct_start=0.15)
    started, seen = time.perf_counter(), []
    for step in range(1, steps + 1):
        tiles, labels = draw_batch(volumes, 2, SMALL_TILE if step <= SMALL * steps else TILE, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = network(tiles)
        loss = loss_of(logits.float(), regions_of(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        seen.append(loss.item())
        if step % 50 == 0 or step == steps:
            print(f"{step:5d} {time.perf_counter() - started:6.0f} s  loss {np.mean(seen[-50:]):.3f}", flush=True)
        if step % 100 == 0 or step == steps:
            save(network, {}, out)


@torch.inference_mode()
def evaluate(network: nn.Module, volumes: list[Volume]) -> dict[str, float]:
    """Mean DSC of each region on whole volumes: tiles that overlap by half, Gaussian weights."""
    scores = []
    for volume in volumes:
        images = torch.from_numpy(volume.images).float()[None]
        logits = sliding_window_inference(
            images, (TILE,) * 3, 1, lambda tiles: network(tiles)[0], overlap=0.5, mode="gaussian"
        )
        assert isinstance(logits, Tensor)
        truth = regions_of(torch.from_numpy(volume.labels)[None])[0].bool().numpy()
        scores.append([dsc(a, b) for a, b in zip((logits[0] > 0).numpy(), truth, strict=True)])
    means = dict(zip(REGIONS, np.mean(scores, axis=0).tolist(), strict=True))
    lowest = dict(zip(REGIONS, np.min(scores, axis=0).round(3).tolist(), strict=True))
    print("mean DSC:", {name: round(mean, 4) for name, mean in means.items()}, "lowest:", lowest, flush=True)
    return means


def save(network: nn.Module, metrics: dict[str, float], out: Path) -> None:
    """Write weights, task and window; values and nothing that has code of its own."""
    state = {n: v.detach().half().clone() for n, v in network.state_dict().items()}
    content = {"model_state_dict": state, "task": dict(TASK), "window": list(WINDOW), "metrics": metrics}
    partial_file = out.with_suffix(".part")  # never leave half a checkpoint under the final name
    torch.save(content, partial_file)
    partial_file.replace(out)


def main() -> None:
    """Train, or evaluate what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--cases", type=int, default=120, help="training cases to draw")
    parser.add_argument("--held-out", type=int, default=VALIDATION_CASES, help="validation cases to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=CHECKPOINTS["brain"])
    parser.add_argument("--evaluate", action="store_true", help="only print the accuracy of --out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.evaluate:
        train(load_volumes("train", options.cases, options.seed), options.steps, options.seed, options.out)
    network = build_model(read_checkpoint(options.out)).module
    metrics = evaluate(network, load_volumes("validation", options.held_out, options.seed))
    if not options.evaluate:
        save(network, {f"{name} DSC": value for name, value in metrics.items()}, options.out)


if __name__ == "__main__":
    main()
