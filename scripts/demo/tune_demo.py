"""Tune the demo's checkpoint to whole bodies, and write the one for ``--demo abdomen``.

    python scripts/demo/tune_demo.py       # about 10 minutes on a CPU core

The demo's network only ever saw tiles around a pancreas, and finds one in others too. Its decoder alone is trained on,
on tiles from anywhere in made-up bodies, at the full and at half the resolution; encoder and classifier stay as they
are, so that the classes do.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout that is not installed

from demo_tiles import HU_LIMIT, TILE

from bench.demo import CHECKPOINT, CHECKPOINTS, draw_case
from models.load import build_model, read_checkpoint

NEAR = 0.4  # share of the tiles that lie around the pancreas; the others lie anywhere
HALF = 0.35  # share of the tiles at half the resolution
FROZEN = ("enc", "bottleneck", "classifier")


@dataclass(frozen=True)
class Volume:
    """Image in [0, 1] as float16 and labels as uint8, ``[x, y, z]``; voxel indices of the whole pancreas ``[N, 3]``."""

    image: Tensor
    labels: Tensor
    pancreas: Tensor


def load(index: int, seed: int) -> list[Volume]:
    """A training case at the full and at half the resolution."""
    case = draw_case("train", index, seed=seed, kind="abdomen")
    image = torch.from_numpy((np.clip(case.image, -HU_LIMIT, HU_LIMIT) + HU_LIMIT) / (2 * HU_LIMIT)).float()
    labels = torch.from_numpy(case.labels)
    half = functional.avg_pool3d(image[None], 2, ceil_mode=True)[0]
    share = [functional.avg_pool3d((labels == label).float()[None], 2, ceil_mode=True)[0] for label in range(3)]
    likeliest = torch.stack(share).argmax(0).to(torch.uint8)
    return [Volume(image.half(), labels, labels.nonzero()), Volume(half.half(), likeliest, likeliest.nonzero())]


def draw_tile(volume: Volume, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A tile of ``volume`` around a voxel of the pancreas or of anywhere, flipped at random."""
    image, labels = volume.image, volume.labels
    centre: NDArray[np.int64] = rng.integers(0, labels.shape)
    if rng.random() < NEAR:
        centre = volume.pancreas[int(rng.integers(len(volume.pancreas)))].numpy() + rng.integers(-28, 29, 3)
    first = [int(np.clip(c - TILE // 2, 0, max(n - TILE, 0))) for c, n in zip(centre, labels.shape, strict=True)]
    box = tuple(slice(a, a + TILE) for a in first)
    short = [pad for n in reversed(labels.shape) for pad in (0, max(TILE - n, 0))]
    flips = [axis for axis in range(3) if rng.random() < 0.5]
    x, y = functional.pad(image[box].float(), short), functional.pad(labels[box].long(), short)
    return x.flip(flips), y.flip(flips)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of pancreas and lesion over the batch."""
    entropy = functional.cross_entropy(logits, labels)
    chance = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(labels, 3).movedim(-1, 1)[:, 1:].float()
    overlap = 2 * (chance * truth).sum((0, 2, 3, 4)) + 50
    return 2 * entropy + 1 - (overlap / (chance.sum((0, 2, 3, 4)) + truth.sum((0, 2, 3, 4)) + 50)).mean()


def tune(network: nn.Module, options: argparse.Namespace) -> None:
    """Train the decoder; `options.out` is written every 50 steps, so that a stopped training leaves a checkpoint."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for name, weight in network.named_parameters():
        weight.requires_grad_(not name.startswith(FROZEN))
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=options.steps, pct_start=0.1)
    volumes = [load(index, options.seed) for index in range(options.cases)]
    started, seen = time.perf_counter(), []
    for step in range(1, options.steps + 1):
        drawn = [draw_tile(volumes[int(rng.integers(len(volumes)))][int(rng.random() < HALF)], rng) for _ in range(2)]
        x = torch.stack([image for image, _ in drawn])[:, None].contiguous(memory_format=torch.channels_last_3d)
        logits, _ = network(x)
        loss = loss_of(logits, torch.stack([labels for _, labels in drawn]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        schedule.step()
        seen.append(loss.item())
        if step % 50 == 0 or step == options.steps:
            print(f"{step:5d} {time.perf_counter() - started:6.0f} s  loss {np.mean(seen[-50:]):.3f}", flush=True)
            save(network, options.out)


def save(network: nn.Module, out: Path) -> None:
    """Write the bundled checkpoint's keys with these weights; its recorded metrics are not theirs, and left out."""
    state = {n: v.detach().clone(memory_format=torch.contiguous_format) for n, v in network.state_dict().items()}
    partial_file = out.with_suffix(".part")  # never leave half a checkpoint under the final name
    torch.save({"model_state_dict": state}, partial_file)
    partial_file.replace(out)


def main() -> None:
    """Tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--cases", type=int, default=24, help="training cases to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=CHECKPOINTS["abdomen"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune(build_model(read_checkpoint(CHECKPOINT)).module, options)


if __name__ == "__main__":
    main()
