"""Trains a network of nnU-Net of realistic size for half an hour, and writes cases for it: to time what people run.

    python scripts/demo/nnunet_results.py --out DIR [--features 32] [--narrow-steps 600] [--steps 60] [--cases 8]
    bench run --checkpoint DIR/results --data DIR/raw --tta mirror --baseline peer-nnunet-stock --accuracy agreement \\
        --backends openvino-fp32,openvino-bf16,openvino-int8 --rounds 1

The network is nnU-Net's PlainConvUNet of six stages by plans of ``3d_fullres``. So that minutes are enough on a CPU, a
network of a fourth of the width is trained first, then widened to one that computes the same (Chen et al. 2016,
Net2Net, 3.1) and trained on. The cases are spheres in noise, of one or two tiles, with masks; training sees cases of
its own.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

PATCH = (64, 96, 96)  # z, y, x
WIDENED = 4  # times as many channels as the network that is trained first
SYMMETRY_BREAK = 0.02  # noise on what was widened, of its standard deviation: else copies of a channel stay copies
SPACING = (2.0, 0.8, 0.8)  # mm, z, y, x
HU = (0.0, 300.0, 700.0)  # of background and both structures
NOISE_HU = 40.0
MEAN, STD = 150.0, 250.0  # HU
CLIP = (-150.0, 850.0)  # HU
SPLITS = {"Tr": 8, "Val": 8}
FIRST_TRAINING_CASE = 10_000


def plans(features: int) -> dict[str, Any]:
    """As nnU-Net's planner writes them."""
    resample = "resample_data_or_seg_to_shape"
    ways = {"data": 3, "seg": 1, "probabilities": 1}
    resampling: dict[str, Any] = {f"resampling_fn_{what}": resample for what in ways}
    for what, order in ways.items():
        resampling[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None
        }  # fmt: skip
    arguments = {
        "n_stages": 6,
        "features_per_stage": [min(features * 2**stage, 10 * features) for stage in range(6)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 4 + [[1, 2, 2]],
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [64.0, 120.0, 120.0],
        "spacing": list(SPACING),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
        **resampling,
    }
    statistics = {"mean": MEAN, "std": STD, "median": 0.0, "min": -200.0, "max": 900.0,
                  "percentile_00_5": CLIP[0], "percentile_99_5": CLIP[1]}  # fmt: skip
    return {
        "dataset_name": "Dataset001_Made_up",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(SPACING),
        "original_median_shape_after_transp": [64, 120, 120],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "organ": 1, "lesion": 2},
    "numTraining": SPLITS["Tr"],
    "file_ending": ".nii.gz",
    "name": "Made_up",
}


def network(held: dict[str, Any]) -> nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = held["configurations"]["3d_fullres"]["architecture"]
    built: nn.Module = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 1, 3,
        deep_supervision=True,
    )  # fmt: skip
    return built


def trained(features: int, fold: int, narrow_steps: int, steps: int) -> nn.Module:
    """A network of so many `features`, widened from a trained narrow one and trained on."""
    torch.manual_seed(fold)
    narrow = _train(network(plans(features // WIDENED)), fold, narrow_steps, learning_rate=2e-3)
    learner = network(plans(features))
    learner.load_state_dict(widened(narrow.state_dict(), learner.state_dict()))
    return _train(learner, fold, steps, learning_rate=2e-4)


def widened(narrow: dict[str, Tensor], wide: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the shapes of `wide` that compute what `narrow` does, but for the noise: each channel several times.

    Channels that are read several times are divided by that number. Copies lie side by side, so that a concatenation
    of copies is a copy of the concatenation.
    """
    weights = {}
    for name, shape in ((name, weight.shape) for name, weight in wide.items()):
        weight = narrow[name]
        read = 0 if "transpconvs" in name else 1  # the axis of what a convolution reads
        if weight.ndim > 1:
            weight = weight * (weight.shape[read] / shape[read])
        for axis, (have, wanted) in enumerate(zip(weight.shape, shape, strict=True)):
            weight = weight.repeat_interleave(wanted // have, axis)
        if weight.ndim > 1:
            weight = weight + SYMMETRY_BREAK * weight.std() * torch.randn_like(weight)
        weights[name] = weight
    return weights


def _train(learner: nn.Module, fold: int, steps: int, learning_rate: float) -> nn.Module:
    """By cross-entropy and Dice on patches of new cases, one a step."""
    optimizer = torch.optim.AdamW(learner.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, max(steps, 2))
    for step in range(steps):
        image, mask = patch(FIRST_TRAINING_CASE * (fold + 1) + step)
        logits = learner(image)[0]  # in FP32: under autocast oneDNN 3.12 gives infinite gradients
        loss = functional.cross_entropy(logits, mask) + 1 - _dice(logits.softmax(1), mask)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.parameters(), 12)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            print(f"fold {fold}, step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    return learner


def _dice(probabilities: Tensor, mask: Tensor) -> Tensor:
    """Mean soft Dice of the structures."""
    true = functional.one_hot(mask, 3).movedim(-1, 1)[:, 1:]
    predicted, axes = probabilities[:, 1:], (0, 2, 3, 4)
    return ((2 * (predicted * true).sum(axes) + 1) / (predicted.sum(axes) + true.sum(axes) + 1)).mean()


def patch(number: int) -> tuple[Tensor, Tensor]:
    """A case as nnU-Net's preprocessing makes it, a part of it: image and mask."""
    image, mask = (volume.transpose(2, 1, 0) for volume in case(number))
    rng = np.random.default_rng(number)
    starts = [rng.integers(max(have - side, 0) + 1) for side, have in zip(PATCH, mask.shape, strict=True)]
    window = tuple(slice(start, start + side) for start, side in zip(starts, PATCH, strict=True))
    missing = [(0, max(side - have, 0)) for side, have in zip(PATCH, mask.shape, strict=True)]
    normalised = np.pad((np.clip(image[window], *CLIP).astype(np.float32) - MEAN) / STD, missing)
    padded = np.pad(mask[window].astype(np.int64), missing)
    return torch.from_numpy(normalised)[None, None], torch.from_numpy(padded)[None]


def write_results(folder: Path, features: int, folds: int, narrow_steps: int, steps: int) -> None:
    held = plans(features)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(held, indent=1))
    (folder / "dataset.json").write_text(json.dumps(DATASET, indent=1))
    for fold in range(folds):
        place = folder / f"fold_{fold}"
        place.mkdir()
        checkpoint = {
            "network_weights": trained(features, fold, narrow_steps, steps).state_dict(),
            "init_args": {"plans": held, "configuration": "3d_fullres", "fold": fold, "dataset_json": DATASET},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, place / "checkpoint_final.pth")


def case(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An image and its mask, x, y, z: an organ with lesions, a few times."""
    rng = np.random.default_rng(number)
    sides = (int(rng.integers(80, 130)), int(rng.integers(80, 96)), int(rng.integers(40, 64)))
    mm = np.array(SPACING[::-1])
    grid = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), -1) * mm
    mask = np.zeros(sides, np.uint8)
    for _ in range(4):
        centre, radius = rng.uniform(0.2, 0.8, 3) * sides * mm, rng.uniform(8, 16)
        mask[((grid - centre) ** 2).sum(-1) < radius**2] = 1
        within = centre + rng.uniform(-0.3, 0.3, 3) * radius
        mask[((grid - within) ** 2).sum(-1) < (0.4 * radius) ** 2] = 2
    clean = gaussian_filter(np.array(HU)[mask], 0.6)
    return (clean + rng.normal(0, NOISE_HU, sides)).astype(np.int16), mask


def write_cases(folder: Path, count: int) -> None:
    (folder / "imagesTr").parent.mkdir(parents=True, exist_ok=True)
    counts = SPLITS | {"Val": count}
    for split, number in ((split, number) for split, many in counts.items() for number in range(many)):
        patient = number + 1000 * (split == "Val")
        image, mask = case(patient)
        for kind, end, voxels in (("images", "_0000", image), ("labels", "", mask)):
            place = folder / f"{kind}{split}"
            place.mkdir(exist_ok=True)
            volume: Any = nib.Nifti1Image(voxels, np.diag([*SPACING[::-1], 1.0]))  # type: ignore[no-untyped-call]
            volume.header.set_xyzt_units("mm")
            nib.save(volume, place / f"case_{patient:04}{end}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(DATASET, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--features", type=int, default=32, help="channels of the first stage (32)")
    parser.add_argument("--narrow-steps", type=int, default=600, help="of training a fourth of the channels (600)")
    parser.add_argument("--steps", type=int, default=60, help="of training all channels (60)")
    parser.add_argument("--cases", type=int, default=8, help="evaluated ones (8)")
    parser.add_argument("--folds", type=int, default=1, help="networks (1)")
    options = parser.parse_args()
    if options.features % WIDENED:
        parser.error(f"--features {options.features}: must be a multiple of {WIDENED}")
    write_results(options.out / "results", options.features, options.folds, options.narrow_steps, options.steps)
    write_cases(options.out / "raw", options.cases)


if __name__ == "__main__":
    main()
