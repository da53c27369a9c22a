"""What everything but the network costs: each stage of the pipeline against the plain way of writing it.

    python scripts/benchmark_pipeline.py [--shape 256,256,128] [--rounds 9] [--threads 2]
    python scripts/benchmark_pipeline.py --large [--backend torch-fp32]

Plainly: nibabel's `get_fdata(dtype=float32)`; numpy's clip, subtract and divide, and a contiguous copy; tiles stacked,
their weighted logits and weights summed, a division and `argmax`, as MONAI's sliding window does it; `nibabel.save`.
The network is left out: both stitch the same ready logits. Before anything is timed, both must give equal voxels,
tiles and labels. In each round both versions of a stage run one after the other, in random order, on the same made-up
volume, which lies in the page cache. Prints the medians of the rounds' ratios, plain over ours, with their ranges, and
the medians of the seconds.

With --large one case of 512 x 512 x 600 voxels is run with the demo's checkpoint (width 8), and its peak of resident
memory held against 6 GiB; minutes, and 2 GB of disk at most.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import torch

import engines
from bench import demo
from bench.data.volume import read_image
from bench.data.write import write_mask
from bench.machine import host
from bench.machine.clock import peak_resident_bytes
from bench.pipeline import tiles
from bench.pipeline.pipeline import Pipeline, Prepared
from bench.pipeline.preprocess import normalise
from bench.pipeline.region import Geometry, Region
from bench.pipeline.settings import InferenceSettings
from bench.plan.cache import cache_folder
from engines.base import Evidence, Target
from models.load import build_model, read_checkpoint

WINDOW = (-1000.0, 1000.0)
TILE = (64, 64, 64)
SETTINGS = InferenceSettings(protocol="sliding-window", tile=TILE, overlap=0.5, batch=1, roi="none", window=WINDOW)
LARGE, LIMIT = (512, 512, 600), 6 * 2**30


class Ready:
    """Logits that are there already, for any tile."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(1, 3, *TILE, generator=generator)
        self.classes = torch.randn(1, 3, generator=generator)

    def infer(self, _x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits, self.classes

    def sync(self) -> None:
        pass

    def evidence(self) -> Evidence:
        return Evidence("none", {})


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Noise around soft tissue inside an ellipse, air around it: about as compressible as CT."""
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, shape[0])[:, None]
    inside = x**2 + np.linspace(-1, 1, shape[1])[None] ** 2 < 0.6
    hu = np.full(shape, -1000, np.int16)
    for z in range(shape[2]):
        hu[..., z][inside] = rng.normal(40, 20, int(inside.sum())).astype(np.int16)
    volume: Any = nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1]))  # type: ignore[no-untyped-call]  # nibabel annotates little
    nib.save(volume, path)


def plain_read(image: Path) -> np.ndarray:
    volume: Any = nib.load(image)
    return np.asarray(volume.get_fdata(dtype=np.float32))


def plain_preprocess(intensities: np.ndarray) -> torch.Tensor:
    low, high = WINDOW
    return torch.from_numpy(np.ascontiguousarray((np.clip(intensities, low, high) - low) / np.float32(high - low)))


def plain_stitch(volume: torch.Tensor, grid: tiles.Grid, weights: torch.Tensor, session: Ready) -> np.ndarray:
    total, count = torch.zeros(3, *volume.shape[1:]), torch.zeros(1, *volume.shape[1:])
    with torch.inference_mode():
        for box in grid.boxes:
            logits, _ = session.infer(volume[None, :, *box])
            total[(slice(None), *box)] += logits[0] * weights
            count[(slice(None), *box)] += weights
        return (total / count).argmax(0).to(torch.uint8).numpy()


def stages(folder: Path, image: Path) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Ours and the plain way of each stage, checked to be equal."""
    session, volume = Ready(), read_image([image])
    pipeline, plainly_read = Pipeline(session, SETTINGS), plain_read(image)
    prepared, weights = normalise(torch.from_numpy(volume.intensities), WINDOW), tiles.gaussian_weights(TILE)
    _, depth, height, width = prepared.shape
    grid = tiles.sliding_window((depth, height, width), TILE, SETTINGS.overlap)
    region = Region.of((slice(0, depth), slice(0, height), slice(0, width)))
    case = Prepared(Geometry(volume.nifti, region), grid, grid.pad(prepared))

    def ours() -> np.ndarray:
        return pipeline.label(case, pipeline.stopwatch({})).labels

    def plain() -> np.ndarray:
        return plain_stitch(case.volume, grid, weights, session)[grid.interior]

    labels = ours()
    assert np.array_equal(volume.intensities[0], plainly_read)
    assert torch.equal(prepared[0], plain_preprocess(plainly_read))
    # The plain sums are rounded once more, and divided: labels may differ where two classes tie to the last bit.
    assert (labels != plain()).mean() < 1e-5
    header = volume.nifti.header.copy()
    header.set_data_dtype(np.uint8)
    plain_mask: Any = nib.Nifti1Image(np.ascontiguousarray(labels), volume.nifti.affine, header)  # type: ignore[no-untyped-call]
    return {
        "read": (lambda: read_image([image]), lambda: plain_read(image)),
        "preprocess": (
            lambda: normalise(torch.from_numpy(volume.intensities), WINDOW),
            lambda: plain_preprocess(plainly_read),
        ),
        "stitch": (ours, plain),
        "write": (
            lambda: write_mask(folder / "ours.nii.gz", labels, volume.nifti),
            lambda: nib.save(plain_mask, folder / "plain.nii.gz"),
        ),
    }


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(shape: tuple[int, int, int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "case_0000.nii.gz"
        make_volume(image, shape)
        pairs = stages(Path(scratch), image)
        for both in pairs.values():
            for work in both:
                work()  # warm
        taken: dict[str, list[tuple[float, float]]] = {stage: [] for stage in pairs}
        for number in range(rounds):
            for stage, both in pairs.items():
                times = {i: seconds(both[i]) for i in random.Random(f"{number} {stage}").sample((0, 1), 2)}
                taken[stage].append((times[0], times[1]))
        sizes = [(Path(scratch) / f"{name}.nii.gz").stat().st_size for name in ("ours", "plain")]
    print(f"{' x '.join(map(str, shape))} voxels, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"{'':12}{'ours':>10}{'plain':>10}{'ratio':>8}{'lowest':>8}{'highest':>9}")
    for stage, timings in taken.items():
        ratios = [plain / ours for ours, plain in timings]
        ours, plain = (1e3 * median(pair[i] for pair in timings) for i in (0, 1))
        columns = f"{median(ratios):8.2f}{min(ratios):8.2f}{max(ratios):9.2f}"
        print(f"{stage:12}{ours:7.1f} ms{plain:7.1f} ms{columns}")
    print(f"mask {sizes[0]} bytes, plainly {sizes[1]} bytes")


def run_large(backend: str, threads: int) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "case_0000.nii.gz"
        make_volume(image, LARGE)
        model = build_model(read_checkpoint(demo.CHECKPOINT))
        target = Target("cpu", TILE, 1, threads, cache_folder())
        with engines.load(backend).open(model, target) as session:
            outcome = Pipeline(session, SETTINGS).run([image], Path(scratch) / "case.nii.gz")
    peak = peak_resident_bytes()
    stages_s = ", ".join(f"{stage} {ns * 1e-9:.1f} s" for stage, ns in outcome.stages_ns.items())
    print(f"{backend}: {outcome.tiles} tiles in {outcome.case_ns * 1e-9:.0f} s ({stages_s})")
    print(f"peak of resident memory {peak / 2**30:.2f} GiB, at most {LIMIT / 2**30:.0f} GiB")
    return int(peak > LIMIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="256,256,128", metavar="X,Y,Z", help="each at least 64")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=host.physical_threads())
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--backend", default=engines.BASELINE, choices=list(engines.BACKENDS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.large:
        return run_large(options.backend, options.threads)
    x, y, z = map(int, options.shape.split(","))
    compare((x, y, z), options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
