"""Train the width-8 network on the demo's made-up training cases and write the demo's checkpoint.

    python scripts/demo/train_demo.py              # 35 to 45 minutes on two CPU cores
    python scripts/demo/train_demo.py --evaluate   # accuracy of the shipped checkpoint, whole volumes

The metrics inside the checkpoint come from one random 64^3 crop of each validation case, as in the
training the format comes from. Whole volumes give other numbers: ``--evaluate`` prints those.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout that is not installed

from demo_accuracy import crop_metrics, evaluate
from demo_tiles import Batch, Volume, draw_batch, load_volumes

from bench.demo import CHECKPOINT
from models.load import build_model, read_checkpoint
from models.networks.unet import SEGMENTATION_CLASSES, SUBTYPES, MultiTaskUNet

WIDTH = 8
CELL = 16  # voxels along the side of one bottleneck cell
VALIDATION_CASES = 36
WARM_UP = 200  # steps
WHOLE, SHORT = 2, 6  # tiles a step that pass the whole network, and those that stop at the classifier
LABEL_SMOOTHING = 0.1  # one case in eight looks like another subtype


class Standard(nn.Module):
    """Subtracts the running mean of its input ``[B, C]`` and divides by its running deviation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.square: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("square", torch.ones(channels))

    def deviation(self) -> Tensor:
        """The running standard deviation ``[C]``."""
        return (self.square - self.mean**2).clamp(min=1e-4).sqrt()

    def forward(self, values: Tensor) -> Tensor:
        """Standardise; in training mode the running statistics follow the values."""
        values = values.float()
        if self.training:
            self.mean.lerp_(values.detach().mean(0), 0.02)
            self.square.lerp_((values.detach() ** 2).mean(0), 0.02)
        standard: Tensor = (values - self.mean) / self.deviation()
        return standard


class Trainee(nn.Module):
    """The network and two aids to its classifier, neither of which is part of the checkpoint.

    The classifier sees the bottleneck's global average, in which a small lesion drowns. A helper names the
    subtype in every bottleneck cell, so that the cells learn to tell the subtypes apart where the lesion
    is; and the average, which varies little from tile to tile, is standardised. ``weights`` folds the
    latter into the classifier's first layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = MultiTaskUNet(WIDTH)
        self.helper = nn.Conv3d(16 * WIDTH, SUBTYPES + 1, 1)
        self.standard = Standard(16 * WIDTH)
        self.cells: Tensor = torch.empty(0)  # [B, 16 * WIDTH, 4, 4, 4] of the latest pass
        self.network.bottleneck.register_forward_hook(self._keep)
        assert self.network.classifier is not None
        self.network.classifier.register_forward_pre_hook(lambda _, args: (self.standard(*args),))

    def _keep(self, _module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
        self.cells = output

    def weights(self) -> dict[str, Tensor]:
        """The state dict of a plain network that computes the same in evaluation mode."""
        state = {
            name: value.detach().float().clone(memory_format=torch.contiguous_format)
            for name, value in self.network.state_dict().items()
        }
        state["classifier.1.weight"] /= self.standard.deviation()
        state["classifier.1.bias"] -= state["classifier.1.weight"] @ self.standard.mean
        return state

    def subtype_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the tiles' and of the cells' subtypes, after the pass that gave ``logits``."""
        tile = functional.cross_entropy(logits.float(), batch.subtype, label_smoothing=LABEL_SMOOTHING)
        lesion = functional.avg_pool3d((batch.labels == 2).float()[:, None], CELL)[:, 0] > 0.03
        truth = torch.where(lesion, batch.subtype[:, None, None, None], SUBTYPES)
        weight = torch.tensor([1.0] * SUBTYPES + [0.1])
        return tile + functional.cross_entropy(self.helper(self.cells).float(), truth, weight)

    def classify(self, image: Tensor) -> Tensor:
        """Subtype logits ``[B, 3]`` without the cost of the decoder."""
        net: Any = self.network  # its blocks are known by name at run time only
        deep = net.enc4(net.pool(net.enc3(net.pool(net.enc2(net.pool(net.enc1(image)))))))
        logits: Tensor = net.classifier(net.bottleneck(net.pool(deep)).mean(dim=(2, 3, 4)))
        return logits


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of pancreas and lesion over the batch."""
    entropy = functional.cross_entropy(logits, labels, torch.tensor([0.5, 1.0, 1.5]))
    chance = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(labels, SEGMENTATION_CLASSES).movedim(-1, 1)[:, 1:].float()
    overlap = 2 * (chance * truth).sum((0, 2, 3, 4)) + 1
    dice = overlap / (chance.sum((0, 2, 3, 4)) + truth.sum((0, 2, 3, 4)) + 1)
    return entropy + 1 - dice.mean()


def train(volumes: list[Volume], held_out: list[Volume], steps: int, seed: int, out: Path) -> None:
    """Train from scratch; ``out`` is written every 500 steps, so that a stopped training leaves a checkpoint."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    trainee = Trainee().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    started, seen = time.perf_counter(), []
    for step in range(1, steps + 1):
        trainee.train()
        batch, more = draw_batch(volumes, WHOLE, rng), draw_batch(volumes, SHORT, rng)
        with torch.autocast("cpu", torch.bfloat16):
            masks, logits = trainee.network(batch.image)
            subtype = trainee.subtype_loss(logits, batch) * WHOLE / (WHOLE + SHORT)
            logits = trainee.classify(more.image)
            subtype = subtype + trainee.subtype_loss(logits, more) * SHORT / (WHOLE + SHORT)
        segmentation = segmentation_loss(masks.float(), batch.labels)
        optimizer.zero_grad()
        (segmentation + subtype).backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        right = (logits.argmax(1) == more.subtype).float().mean().item()
        seen.append((segmentation.item(), subtype.item(), right))
        if step % 50 == 0:
            losses = " ".join(f"{each:.3f}" for each in np.mean(seen[-50:], axis=0))
            print(f"{step:5d} {time.perf_counter() - started:6.0f} s  seg, subtype, tiles right: {losses}", flush=True)
        if step % 500 == 0 or step == steps:
            trainee.eval()
            epoch = step * (WHOLE + SHORT) // len(volumes)  # a tile of every case, as the reference counts
            save(trainee.weights(), optimizer, epoch, crop_metrics(trainee.network, held_out, seed), out)


def save(
    weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, epoch: int, metrics: dict[str, np.float64], out: Path
) -> None:
    """Write a checkpoint with the reference's keys, less AdamW's moments: two thirds of the file, of no use here."""
    metrics = dict(metrics)
    f1 = metrics.pop("cls_f1")
    content = {
        "epoch": epoch,
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": {}, "param_groups": optimizer.state_dict()["param_groups"]},
        "metrics": metrics,
        "cls_f1": f1,
    }
    partial_file = out.with_suffix(".part")  # never leave half a checkpoint under the final name
    torch.save(content, partial_file)
    partial_file.replace(out)


def main() -> None:
    """Train, or evaluate what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--cases", type=int, default=240, help="training cases to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--evaluate", action="store_true", help="only print the accuracy of --out")
    options = parser.parse_args()
    torch.set_num_threads(2)
    held_out = load_volumes("validation", VALIDATION_CASES, options.seed)
    if not options.evaluate:
        volumes = load_volumes("train", options.cases, options.seed)
        train(volumes, held_out, options.steps, options.seed, options.out)
    evaluate(build_model(read_checkpoint(options.out)).module, held_out)


if __name__ == "__main__":
    main()
