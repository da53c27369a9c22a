"""What scoring a case costs, by the number of structures, beside the forward of a network of width 32 on that case.

    python scripts/benchmark_scoring.py [--shape 192,192,192] [--structures 2,15,105] [--rounds 3] [--threads 2]

A made-up volume is full of structures, each the voxels nearest to one of as many random points; the prediction is the
truth moved by a voxel, with one voxel in 500 of any structure. Each number of structures is scored in a fresh process
with DSC and NSD of each (voxels of 1 mm, within 2 mm); printed are the medians of the rounds' seconds, to read three
masks and to score them, and the process's peak of resident memory. The forward is the median of the rounds' tiles of
64^3 through the reference network, times the tiles of the volume at overlap 0.5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bench.accuracy import structure_scores, task_of
from bench.data.volume import MaskValues, read_mask
from bench.machine import host
from bench.machine.clock import peak_resident_bytes
from bench.pipeline.tiles import Shape, sliding_window
from models.task import Task, structures_of
from reports.records.record import TaskRecord

TILE, OVERLAP, WIDTH = (64, 64, 64), 0.5, 32
NAMES = ("truth", "prediction", "baseline")


def task_with(structures: int) -> TaskRecord:
    labels = {"background": 0} | {f"structure {label}": label for label in range(1, structures + 1)}
    task = Task(name="made up", channels=("CT",), labels=labels, structures=structures_of(labels))
    return task_of(task, tuple(labels.values()), 0)


def make_masks(folder: Path, shape: Shape, structures: int) -> None:
    """The masks in `NAMES`; a quarter of each axis is background on both sides together."""
    rng = np.random.default_rng(structures)
    axes = [np.arange(side, dtype=np.float32) for side in shape]
    nearest, truth = np.full(shape, np.inf, np.float32), np.zeros(shape, np.uint8)
    for label in range(1, structures + 1):
        x, y, z = (((axis - rng.uniform(len(axis) / 8, 7 * len(axis) / 8)) ** 2) for axis in axes)
        distance = x[:, None, None] + y[None, :, None] + z
        truth[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    outside = [np.abs(axis - len(axis) / 2) > 3 * len(axis) / 8 for axis in axes]
    truth[outside[0]], truth[:, outside[1]], truth[:, :, outside[2]] = 0, 0, 0
    prediction: NDArray[np.uint8] = np.roll(truth, 1, axis=0)
    noise = rng.random(shape) < 1 / 500
    prediction[noise] = rng.integers(0, structures + 1, int(noise.sum()))
    for name, mask in zip(NAMES, (truth, prediction, prediction), strict=True):
        image: Any = nib.Nifti1Image(mask, np.eye(4))  # type: ignore[no-untyped-call]  # nibabel annotates little
        nib.save(image, folder / f"{name}.nii.gz")


def measure(folder: Path, structures: int, rounds: int) -> dict[str, float]:
    """Score the masks in `folder` again and again."""
    task, reading, scoring = task_with(structures), [], []
    for _ in range(rounds):
        start = time.perf_counter()
        truth, prediction, baseline = (
            read_mask(folder / f"{name}.nii.gz", None, MaskValues.of(task)) for name in NAMES
        )
        read = time.perf_counter()
        scores = structure_scores(prediction, truth, task, (1.0, 1.0, 1.0))
        int((prediction != baseline).sum())
        reading.append(read - start)
        scoring.append(time.perf_counter() - read)
    assert all(own.nsd is not None and 0 < own.nsd < 1 for own in scores.values())
    return {"read_s": median(reading), "score_s": median(scoring), "peak_bytes": peak_resident_bytes()}


def forward_s(shape: Shape, rounds: int, threads: int) -> float:
    import torch

    from models.networks.unet import MultiTaskUNet

    torch.set_num_threads(threads)
    network, tile, taken = MultiTaskUNet(WIDTH).eval(), torch.randn(1, 1, *TILE), []
    with torch.inference_mode():
        network(tile)  # warm
        for _ in range(rounds):
            start = time.perf_counter()
            network(tile)
            taken.append(time.perf_counter() - start)
    return median(taken) * len(sliding_window(shape, TILE, OVERLAP).starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="192,192,192", metavar="X,Y,Z", help="each at least 64")
    parser.add_argument("--structures", default="2,15,105", metavar="N,N,...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=host.physical_threads())
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = [int(number) for number in options.structures.split(",")]
    if options.child:
        print(json.dumps(measure(options.child, numbers[0], options.rounds)))
        return
    x, y, z = map(int, options.shape.split(","))
    machine = host.describe("cpu")
    print(f"{x} x {y} x {z} voxels, {options.rounds} rounds, {machine.cores} cores with {machine.cpu_features}")
    print(f"{'structures':>10}{'read':>10}{'score':>10}{'peak memory':>14}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as scratch:
            make_masks(Path(scratch), (x, y, z), number)
            command = [sys.executable, __file__, "--child", scratch, "--structures", str(number)]
            command += ["--rounds", str(options.rounds)]
            measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        mebibytes = measured["peak_bytes"] / 2**20
        print(
            f"{number:>10}{measured['read_s']:>8.2f} s{measured['score_s']:>8.2f} s{mebibytes:>10.0f} MiB", flush=True
        )
    seconds = forward_s((x, y, z), options.rounds, options.threads)
    print(f"forward of width {WIDTH} on this volume: {seconds:.0f} s with {options.threads} threads")


if __name__ == "__main__":
    main()
