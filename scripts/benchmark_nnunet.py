"""A case of a network of nnU-Net beside nnU-Net's own predictor: where its time goes, and whether the masks are equal.

    python scripts/benchmark_nnunet.py [--plans thick,isotropic,lowres] [--classes 2,14,105] [--rounds 3]
    python scripts/benchmark_nnunet.py --features 32 --backends openvino-bf16,openvino-int8 --classes 2
    python scripts/benchmark_nnunet.py --large

In each round every way runs the same case once, in random order, in this process: nnU-Net's predictor step by step
(reader, preprocessing, sliding window without mirroring, export), with --processes the same with its own processes
beside it (some copies of the case in a call, of which the time of one is shown), and ours with each backend. *Forward*
is the time within the network; *around it* the rest. Told are the medians of the rounds and of the rounds' ratios, with
their ranges, and how many voxels have other labels than nnU-Net's.

The network is nnU-Net's PlainConvUNet with random weights, to which is added a linear layer that knows the
intensities of the structures in the made-up image. So masks have structures with borders, as those of a trained
network, of which the made-up ones of random weights alone would have none.

With --large a case of 512 x 512 x 400 voxels and 105 classes is predicted as stored, in a process of its own, and
its peak of memory is shown.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import engines
from bench.machine.host import describe
from bench.peers import PEERS
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.preparation import preparation_of
from bench.pipeline.settings import InferenceSettings
from bench.worker import allocator
from engines.base import Calibration, Evidence, Target
from models.model import Model, Plans
from models.suppress import suppress_output

COPIES = 3  # of the case in a call of nnU-Net with its processes
HU_MEAN, HU_STD = 500.0, 300.0
SHARPNESS = 4.0  # of the structures' logits


@dataclass(frozen=True)
class Setup:
    """Sides of the image in voxels and mm, both x, y, z, and the spacing of the plans, z, y, x in mm."""

    shape: tuple[int, int, int]
    mm: tuple[float, float, float]
    planned_mm: tuple[float, float, float]


SETUPS = {
    "thick": Setup((400, 400, 40), (0.7, 0.7, 5.0), (2.5, 0.8, 0.8)),
    "isotropic": Setup((288, 288, 72), (0.7, 0.7, 3.0), (0.8, 0.8, 0.8)),
    "lowres": Setup((256, 256, 200), (0.8, 0.8, 1.0), (1.6, 1.6, 1.6)),
}
LARGE = Setup((512, 512, 400), (0.8, 0.8, 0.8), (0.8, 0.8, 0.8))


class Knowing(nn.Module):
    """A network of random weights, and a linear layer by which each structure is likeliest at its own intensities."""

    def __init__(self, network: nn.Module | None, codes: NDArray[np.float64]) -> None:
        """Of codes ``[classes, channels]``, as normalised intensities; without a network the layer alone."""
        super().__init__()
        classes, channels = codes.shape
        self.network = network
        self.by_intensity = nn.Conv3d(channels, classes, 1)
        with torch.no_grad():
            self.by_intensity.weight.copy_(torch.from_numpy(2 * SHARPNESS * codes).reshape(classes, channels, 1, 1, 1))
            assert self.by_intensity.bias is not None
            self.by_intensity.bias.copy_(torch.from_numpy(-SHARPNESS * (codes**2).sum(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.by_intensity(x)
        return logits if self.network is None else logits + 0.02 * self.network(x), x.new_zeros(len(x), 1)


def codes_of(classes: int) -> NDArray[np.float64]:
    """Normalised intensities of the classes: levels in one channel; of many classes a grid in three.

    A voxel between two structures has an intensity between theirs. In one channel that is a third one's, which of many
    classes would give borders as no trained network draws them.
    """
    if classes <= 20:
        return np.linspace(-1.5, 1.5, classes)[:, None]
    side = int(np.ceil(classes ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return grid[np.random.default_rng(1).permutation(len(grid))[:classes]]


def structures(shape: Sequence[int], mm: Sequence[float], classes: int) -> NDArray[np.uint8]:
    """Ellipsoids of 8 to 40 mm, a few of each class, on background."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8)
    extent = np.multiply(shape, mm)
    for number in range(max(60, 2 * classes)):
        centre, radius = rng.uniform(0.1, 0.9, 3) * extent, rng.uniform(8, 40, 3)
        low = np.maximum(((centre - radius) / mm).astype(int), 0)
        high = np.minimum(((centre + radius) / mm).astype(int) + 1, shape)
        axes = [(np.arange(a, b) * s - c) / r for a, b, s, c, r in zip(low, high, mm, centre, radius, strict=True)]
        x, y, z = np.ix_(*axes)
        part = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        part[x**2 + y**2 + z**2 < 1] = 1 + number % (classes - 1)
    return labels


def write_images(folder: Path, setup: Setup, codes: NDArray[np.float64]) -> list[Path]:
    """An int16 image of each channel: the structures' codes, blurred by half a voxel, and noise of 20 HU."""
    labels, paths = structures(setup.shape, setup.mm, len(codes)), []
    for channel in range(codes.shape[1]):
        clean = (codes[:, channel] * HU_STD + HU_MEAN).astype(np.float32)[labels]
        noise = np.random.default_rng(channel).normal(0, 20, setup.shape).astype(np.float32)
        voxels = (gaussian_filter(clean, 0.5) + noise).astype(np.int16)
        paths.append(folder / f"case_{channel:04}.nii.gz")
        image: Any = nib.Nifti1Image(voxels, np.diag([*setup.mm, 1.0]))  # type: ignore[no-untyped-call]
        nib.save(image, paths[-1])
    return paths


def plans_of(setup: Setup, tile: Sequence[int], channels: int) -> dict[str, Any]:
    """As nnU-Net's planner writes them."""
    resampled = {
        f"resampling_fn_{what}{end}": value
        for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
        for end, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}),
        )
    }
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": list(tile),
        "spacing": list(setup.planned_mm),
        "normalization_schemes": ["CTNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "architecture": {},
        **resampled,
    }
    statistics = {"mean": HU_MEAN, "std": HU_STD, "percentile_00_5": -400.0, "percentile_99_5": 1400.0}
    return {
        "dataset_name": "Dataset001_Made_up",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): statistics for channel in range(channels)},
        "configurations": {"3d_fullres": configuration},
    }


def network_of(classes: int, channels: int, features: int) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    stages = [min(features * 2**stage, 320) for stage in range(5)]
    network: nn.Module = PlainConvUNet(
        channels, 5, stages, nn.Conv3d, 3, [1, 2, 2, 2, 2], 2, classes, 2, conv_bias=True, norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    return network.eval()


def model_of(setup: Setup, classes: int, options: argparse.Namespace) -> Model:
    codes = codes_of(classes)
    channels = codes.shape[1]
    names = {str(channel): "CT" for channel in range(channels)}
    labels = {"background": 0, **{f"structure {number}": number for number in range(1, classes)}}
    dataset = {"channel_names": names, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    plans = Plans(plans_of(setup, options.tile, channels), dataset, "3d_fullres")
    module = Knowing(network_of(classes, channels, options.features) if options.features else None, codes)
    return Model(
        module=module.eval(), architecture="made-up", width=options.features, tile=options.tile, window=(0, 1),
        sha256=f"{classes} {options.features} {options.tile}", labels=tuple(range(classes)), subtypes=0, plans=plans,
    )  # fmt: skip


def settings_of(model: Model, channels: int) -> InferenceSettings:
    return InferenceSettings.of(model, protocol="sliding-window", batch=1, roi="none", channels=channels)


@dataclass(frozen=True)
class Took:
    """Seconds of a case, and of these within the network."""

    whole: float
    forward: float

    @property
    def around(self) -> float:
        return self.whole - self.forward


def with_processes(pipeline: Any, images: Sequence[Path], mask: Path) -> Took:
    """nnU-Net's predictor over some copies of the case, preparing and exporting in processes of its own."""
    predictor = pipeline._predictor  # its network notes its own time
    network = predictor.network
    network.start()
    names = [str(mask).removesuffix(".nii.gz") + f"_{copy}" for copy in range(COPIES)]
    start = time.perf_counter()
    with suppress_output():
        predictor.predict_from_files(
            [list(map(str, images))] * COPIES, names, overwrite=True, num_processes_preprocessing=1,
            num_processes_segmentation_export=1,
        )  # fmt: skip
    whole = time.perf_counter() - start
    return Took(whole / COPIES, network.network_ns * 1e-9 / COPIES)


def case_by(pipeline: Any, images: Sequence[Path], mask: Path) -> Took:
    timing = pipeline.run(images, mask)
    return Took(timing.case_ns * 1e-9, timing.stages_ns["forward"] * 1e-9)


def calibration_of(settings: InferenceSettings, images: Sequence[Path]) -> Calibration:
    """The case's own tiles, as no accuracy is asked for."""

    def tiles() -> Tensor:
        preprocessor, tiling = preparation_of(settings, torch.device("cpu"))
        prepared, _ = preprocessor.prepare(preprocessor.read(images))
        grid = tiling.grid((prepared.shape[1], prepared.shape[2], prepared.shape[3]))
        padded = grid.pad(prepared)
        return torch.stack([padded[(slice(None), *box)] for box in grid.boxes[:: max(1, len(grid.boxes) // 8)]])

    return Calibration(tiles, f"{images} {settings}")


def ways(
    model: Model, settings: InferenceSettings, images: Sequence[Path], options: argparse.Namespace, stack: ExitStack
) -> Iterator[tuple[str, Callable[[Sequence[Path], Path], Took]]]:
    cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    target = Target(options.device, model.tile, 1, options.threads, cache, channels=settings.channels)
    peer: Any = stack.enter_context(engines.load("", PEERS["peer-nnunet"]).open(model, target))
    theirs = peer.case_pipeline(settings)
    yield "nnU-Net", partial(case_by, theirs)
    if options.processes:
        yield "nnU-Net, its processes", partial(with_processes, theirs)
    for name in options.backends:
        calibrated = replace(target, calibration=calibration_of(settings, images))
        session = stack.enter_context(engines.load(name).open(model, calibrated))
        ours = Pipeline(session, settings, options.device)
        yield name, partial(case_by, ours)


def labels_in(path: Path) -> NDArray[Any]:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


def compare(name: str, classes: int, options: argparse.Namespace) -> None:
    setup, codes = SETUPS[name], codes_of(classes)
    model = model_of(setup, classes, options)
    settings = settings_of(model, codes.shape[1])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = write_images(folder, setup, codes)
        sides = dict(ways(model, settings, images, options, stack))
        took: dict[str, list[Took]] = {side: [] for side in sides}
        for number in range(options.rounds):
            for side in random.Random(f"{name} {classes} {number}").sample(list(sides), len(sides)):
                took[side].append(sides[side](images, folder / f"{list(sides).index(side)}.nii.gz"))
        show(name, classes, took, {side: differ(side, sides, folder, classes) for side in sides})
        if options.spread:
            sides["nnU-Net"](images, folder / "again.nii.gz")
            wrong = int((labels_in(folder / "again.nii.gz") != labels_in(folder / "0.nii.gz")).sum())
            print(f"| {name} | {classes} | nnU-Net again | | | | | {wrong} |", flush=True)


def differ(side: str, sides: Mapping[str, Any], folder: Path, classes: int) -> str:
    """How many voxels differ from nnU-Net's own mask, of how many."""
    number = list(sides).index(side)
    ours = labels_in(folder / (f"{number}_0.nii.gz" if side.endswith("processes") else f"{number}.nii.gz"))
    theirs = labels_in(folder / "0.nii.gz")
    assert len(np.unique(theirs)) > classes / 2, "a mask that says nothing"
    return f"{int((ours != theirs).sum())} of {theirs.size / 1e6:.1f} M"


def show(name: str, classes: int, took: Mapping[str, Sequence[Took]], wrong: Mapping[str, str]) -> None:
    reference = took["nnU-Net"]
    for side, own in took.items():
        whole, forward, around = (
            median(getattr(each, what) for each in own) for what in ("whole", "forward", "around")
        )
        ratios = [
            ratio([getattr(a, what) / getattr(b, what) for a, b in zip(reference, own, strict=True)])
            for what in ("around", "whole")
        ]
        print(f"| {name} | {classes} | {side} | {whole:.2f} | {forward:.2f} | {around:.2f} | {ratios[0]} | {ratios[1]} "
              f"| {wrong[side]} |", flush=True)  # fmt: skip


def ratio(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


class Made:
    """A session whose logits cost nothing but what the linear layer takes, so that a large case takes minutes."""

    def __init__(self, codes: NDArray[np.float64]) -> None:
        self._network = Knowing(None, codes).eval()

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, classification = self._network(x)
        return segmentation, classification

    def sync(self) -> None:
        pass

    def evidence(self) -> Evidence:
        return Evidence("none", {})


def large(options: argparse.Namespace) -> None:
    """One case in this process, its peak of memory shown."""
    allocator.keep_freed()
    codes = codes_of(105)
    model = model_of(LARGE, 105, options)
    settings = settings_of(model, codes.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        child = [sys.executable, __file__, "--write-large", str(images)]
        subprocess.run(child, check=True)
        pipeline = Pipeline(Made(codes), settings)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start = time.perf_counter()
        timing = pipeline.run(sorted(images.iterdir()), Path(folder) / "mask.nii.gz")
        took = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        labels = len(np.unique(labels_in(Path(folder) / "mask.nii.gz")))
    stages = ", ".join(f"{stage} {ns * 1e-9:.1f}" for stage, ns in timing.stages_ns.items())
    print(f"512 x 512 x 400 voxels, 105 classes ({labels} in the mask), {codes.shape[1]} channels: {took:.0f} s "
          f"({stages}); peak {peak:.2f} GiB, {before:.2f} GiB before")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", default=",".join(SETUPS))
    parser.add_argument("--classes", default="2,14,105")
    parser.add_argument("--backends", default="torch-fp32")
    parser.add_argument("--features", type=int, default=4, help="channels of the network's first level; 0: no network")
    parser.add_argument("--tile", default="64,96,96", help="patch of the plans")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; with --large the CPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--processes", action="store_true", help="nnU-Net with its own processes too")
    parser.add_argument("--spread", action="store_true", help="whether nnU-Net gives the same mask again")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--write-large", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.tile = tuple(int(side) for side in options.tile.split(","))
    options.backends = options.backends.split(",")
    torch.set_num_threads(options.threads)
    if options.write_large:
        write_images(options.write_large, LARGE, codes_of(105))
        return
    if options.large:
        with torch.inference_mode():
            large(options)
        return
    host = describe(options.device)
    print(f"{host.gpu or host.processor}, {host.cpu_features}, {host.cores} cores; features {options.features}, tile "
          f"{options.tile}, {options.rounds} rounds\n")  # fmt: skip
    print("| plans | classes | by | a case, s | forward, s | around it, s | nnU-Net's around over it "
          "| its case over it | other labels |\n|---|---:|---|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for name in options.plans.split(","):
        for classes in map(int, options.classes.split(",")):
            with torch.inference_mode():
                compare(name, classes, options)


if __name__ == "__main__":
    main()
