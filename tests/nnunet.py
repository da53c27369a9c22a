"""Trained folders of nnU-Net, written by nnU-Net's own trainer."""

import copy
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.errors import CheckpointError
from models.model import Model
from models.options import ModelOptions
from tests.loading import load

_UNET = "dynamic_network_architectures.architectures.unet."
_RESAMPLE = {"order_z": 0, "force_separate_z": None}

DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "pancreas": 1, "lesion": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def architecture(name: str = "PlainConvUNet", **changes: Any) -> dict[str, Any]:
    """Three anisotropic stages of width 4, as nnU-Net's planner writes them."""
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        blocks: [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": _UNET + name,
        "arch_kwargs": arguments | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(**changes: Any) -> dict[str, Any]:
    """Plans with one configuration, ``3d_fullres``, in which `changes` are made."""
    resample = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16],
        "median_image_size_in_voxels": [12.0, 24.0, 24.0],
        "spacing": [3.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resample,
        "resampling_fn_seg": resample,
        "resampling_fn_probabilities": resample,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3} | _RESAMPLE,
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1} | _RESAMPLE,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1} | _RESAMPLE,
        "architecture": architecture(),
        "batch_dice": False,
    }
    intensities = {"mean": 80.0, "std": 60.0, "percentile_00_5": -120.0, "percentile_99_5": 260.0}
    return {
        "dataset_name": "Dataset001_Pancreas",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 1.0, 1.0],
        "original_median_shape_after_transp": [12, 24, 24],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration | changes},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": intensities | {"max": 900.0, "min": -900.0, "median": 75.0}
        },
    }


def planned(dataset: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Plans for the images of `dataset`, each channel normalised as its name asks nnU-Net's planner to."""
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

    schemes = [get_normalization_scheme(name) for name in dataset["channel_names"].values()]
    by_mask = [scheme.leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true for scheme in schemes]
    held = plans(
        **{"normalization_schemes": [scheme.__name__ for scheme in schemes], "use_mask_for_norm": by_mask} | changes
    )
    (intensities,) = held["foreground_intensity_properties_per_channel"].values()
    return held | {
        "dataset_name": f"Dataset001_{dataset['name']}",
        "foreground_intensity_properties_per_channel": {
            str(channel): intensities | {"mean": 80.0 + 10 * channel} for channel in range(len(schemes))
        },
    }


def _dataset(name: str, channels: str, labels: dict[str, Any], **further: Any) -> dict[str, Any]:
    names = {str(number): channel for number, channel in enumerate(channels.split(", "))}
    return DATASET | {"name": name, "channel_names": names, "labels": {"background": 0} | labels} | further


BRAIN = "FLAIR, T1w, t1gd, T2w"
REGIONS = {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
DATASETS = {
    dataset["name"]: dataset
    for dataset in (
        _dataset("BrainTumour", BRAIN, {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}),
        _dataset("Heart", "MRI", {"left atrium": 1}),
        _dataset("Liver", "CT", {"liver": 1, "cancer": 2}),
        _dataset("Hippocampus", "MRI", {"Anterior": 1, "Posterior": 2}),
        _dataset("Prostate", "T2, ADC", {"PZ": 1, "TZ": 2}),
        _dataset("Lung", "CT", {"cancer": 1}),
        _dataset("Pancreas", "CT", {"pancreas": 1, "cancer": 2}),
        _dataset("HepaticVessel", "CT", {"Vessel": 1, "Tumour": 2}),
        _dataset("Spleen", "CT", {"spleen": 1}),
        _dataset("Colon", "CT", {"colon cancer primaries": 1}),
        _dataset("BrainRegions", BRAIN, REGIONS, regions_class_order=[1, 2, 3]),
        _dataset("Scribbles", "CT", {"kidney": 1, "tumor": 2, "ignore": 3}),
        _dataset(
            "RegionsAndScribbles", "T1", {"organ": [1, 2], "posterior": 2, "ignore": 3}, regions_class_order=[1, 2]
        ),
        _dataset("Normalisations", "nonorm, zscore, rescale_to_0_1, rgb_to_0_1, CT", {"thing": 1}),
    )
}
"""The Medical Segmentation Decathlon's, and others of every kind that nnU-Net trains by."""


def train(
    root: Path,
    its_plans: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    configuration: str = "3d_fullres",
    trainer_class: Any = None,
    fold: int = 0,
) -> Path:
    """Make nnU-Net's trainer take one step and save; return the checkpoint, beside which lie the plans.

    Each fold has weights of its own.
    """
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    its_plans, dataset = copy.deepcopy(its_plans or plans()), dataset or DATASET
    folders = {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    preprocessed = root / "nnUNet_preprocessed" / its_plans["dataset_name"] / "nnUNetPlans_3d_fullres"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()
    torch.manual_seed(5 + fold)
    with patch.dict("os.environ", folders), redirect_stdout(io.StringIO()):
        trainer = (trainer_class or nnUNetTrainer)(
            copy.deepcopy(its_plans) | {"continue_training": False}, configuration, fold, dataset, torch.device("cpu")
        )
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # which sets the axes of its predictor
        trainer.network = wrap(trainer.network)
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
        _step(trainer)
        folder = Path(trainer.output_folder)
        path = folder / "checkpoint_final.pth"
        trainer.save_checkpoint(str(path))
    for name, held in (("plans.json", its_plans), ("dataset.json", dataset)):
        (folder.parent / name).write_text(json.dumps(held))
    return path


def _step(trainer: Any) -> None:
    """One step of training; afterwards the last layer is balanced, so that each class is predicted somewhere."""
    x = torch.rand(2, trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    returned = trainer.network(x)
    outputs = returned[0] if isinstance(returned, tuple) else returned
    sum(output.square().mean() for output in outputs).backward()
    trainer.optimizer.step()
    last = next(layer for name, layer in trainer.network.named_modules() if name.endswith("decoder.seg_layers"))[-1]
    with torch.no_grad():
        returned = trainer.network(torch.randn_like(x))
        finest = (returned[0] if isinstance(returned, tuple) else returned)[0]
        last.weight /= finest.std(dim=(0, 2, 3, 4)).reshape(-1, 1, 1, 1, 1)
        last.bias.copy_((last.bias - finest.mean(dim=(0, 2, 3, 4))) / finest.std(dim=(0, 2, 3, 4)))
    trainer.on_epoch_start()
    trainer.logger.log("train_losses", np.mean([np.float32(0.5)]), 0)
    trainer.logger.log("mean_fg_dice", np.nanmean([0.75]), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float64(0.75), np.float64(0.5)], 0)
    trainer._best_ema = np.float64(0.75)


def segmentation_network(its_plans: dict[str, Any], classes: int = 3, channels: int = 1) -> nn.Module:
    """The network that nnU-Net's predictor builds from the plans."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    held = its_plans["configurations"]["3d_fullres"]["architecture"]
    return get_network_from_plans(
        held["network_class_name"], held["arch_kwargs"], held["_kw_requires_import"], channels, classes,
        deep_supervision=False,
    ).eval()  # fmt: skip


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """What the trainer saved of its network; our own file, so it may run what it likes."""
    return dict(torch.load(checkpoint, weights_only=False)["network_weights"])


def outputs(model: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a segmentation and a classification."""
    with torch.inference_mode():
        return model.module(x)


def change(checkpoint: Path, file: str, changed: Callable[[dict[str, Any]], object]) -> None:
    """Change ``plans.json`` or ``dataset.json`` of a checkpoint's results folder."""
    path = checkpoint.parent.parent / file
    held = json.loads(path.read_text())
    changed(held)
    path.write_text(json.dumps(held))


def forget_plans(checkpoint: Path) -> None:
    """Take the plans out of a checkpoint, so that those beside it are the only ones."""
    held = torch.load(checkpoint, weights_only=False)
    for key in ("plans", "dataset_json"):
        del held["init_args"][key]
    torch.save(held, checkpoint)


def refused(checkpoint: Path, said: str, options: ModelOptions | None = None) -> None:
    """Load a checkpoint that must be refused, in one line with a remedy."""
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint, options=options)
    text = str(caught.value)
    assert said in text
    assert text.isprintable()
    assert "; " in text, "no remedy"
