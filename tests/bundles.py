"""MONAI bundles as its model zoo writes them, with small networks of random weights, and MONAI's evaluator of them."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import nn

from tests.conftest import SHARED

UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16],
    "strides": [2, 2], "num_res_units": 2, "norm": "batch",
}  # fmt: skip
SEGRESNET = {
    "_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 105, "init_filters": 8,
    "blocks_down": [1, 1], "blocks_up": [1], "dropout_prob": 0.2,
}  # fmt: skip
WHERE = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"


def step(name: str, keys: Any = "@image_key", **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": keys, **arguments}


def compose(*steps: Any) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(steps)}


READ = (step("LoadImaged"), step("EnsureChannelFirstd"))
RAS = step("Orientationd", axcodes="RAS")
TYPED = step("EnsureTyped")
SOFTMAX, SIGMOID = step("Activationsd", "pred", softmax=True), step("Activationsd", "pred", sigmoid=True)
ARGMAX = step("AsDiscreted", "pred", argmax=True)
HALF = step("AsDiscreted", "pred", threshold=0.5)
SAVE = step(
    "SaveImaged", "pred", output_dir="@output_dir", output_ext="@output_ext", output_dtype="$numpy.float32",
    output_postfix="trans", separate_folder=False, print_log=False,
)  # fmt: skip


def invert(nearest: bool = False) -> dict[str, Any]:
    return step(
        "Invertd", "pred", transform="@preprocessing", orig_keys="@image_key", meta_key_postfix="meta_dict",
        nearest_interp=nearest, to_tensor=True,
    )  # fmt: skip


def spacing(*mm: float) -> dict[str, Any]:
    return step("Spacingd", pixdim=list(mm), mode="bilinear")


def scaled(low: float, high: float) -> dict[str, Any]:
    return step("ScaleIntensityRanged", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)


def window(*roi: int, **settings: Any) -> dict[str, Any]:
    return {"_target_": "SlidingWindowInferer", "roi_size": list(roi), "sw_batch_size": 4, "overlap": 0.5, **settings}


def inference(network: Any, before: Any, inferer: Any, after: Any, **changed: Any) -> dict[str, Any]:
    """An inference.json; its expressions are what every such file has."""
    return {
        "imports": ["$import glob", "$import numpy", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "load_pretrain": True,
        "datalist": "$list(sorted(glob.glob(@bundle_root + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": before,
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": inferer,
        "postprocessing": after,
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
        },
        **changed,
    }  # fmt: skip


def metadata(name: str, channels: list[str], outputs: list[str] | None, **changed: Any) -> dict[str, Any]:
    """What a metadata.json says that is read."""
    image = {"type": "image", "modality": "MR", "num_channels": len(channels)}
    image["channel_def"] = {str(at): channel for at, channel in enumerate(channels)}
    pred: dict[str, Any] = {"type": "image", "format": "segmentation"}
    if outputs is not None:
        pred |= {"num_channels": len(outputs), "channel_def": {str(at): label for at, label in enumerate(outputs)}}
    return {
        "version": "0.0.1",
        "monai_version": "1.4.0",
        "name": name,
        "network_data_format": {"inputs": {"image": image | changed}, "outputs": {"pred": pred}},
    }


def _spleen() -> tuple[Any, Any]:
    before = compose(*READ, RAS, spacing(1.5, 1.5, 2.0), scaled(-57, 164), TYPED)
    config = inference(UNET, before, window(16, 16, 16), compose(SOFTMAX, invert(), ARGMAX, SAVE))
    return config, metadata("Spleen CT segmentation", ["image"], ["background", "spleen"], modality="CT")


def _brats() -> tuple[Any, Any]:
    network = SEGRESNET | {"in_channels": 4, "out_channels": 3}
    before = compose(step("LoadImaged", image_only=False), step("NormalizeIntensityd", nonzero=True, channel_wise=True))
    after = compose(SIGMOID, invert(), HALF, step("Lambdad", "pred", func=WHERE), SAVE | {"resample": False})
    config = inference(
        network, before, window(16, 16, 16, sw_batch_size=1), after,
        dataset_dir="/workspace/data/brats",
        test_datalist="$monai.data.load_decathlon_datalist(@bundle_root + '/list.json', base_dir=@dataset_dir)",
    )  # fmt: skip
    config["dataset"]["data"] = "@test_datalist"
    channels, regions = ["T1c", "T1", "T2", "FLAIR"], ["Tumor core", "Whole tumor", "Enhancing tumor"]
    return config, metadata("BraTS MRI segmentation", channels, regions)


def _prostate() -> tuple[Any, Any]:
    network = UNET | {"out_channels": 3, "act": "prelu", "dropout": 0.15}
    before = compose(
        *READ, RAS, spacing(0.9, 0.9, 1.2), step("ScaleIntensityd", minv=0, maxv=1), step("NormalizeIntensityd"), TYPED
    )
    largest = step("KeepLargestConnectedComponentd", "pred", applied_labels=[1, 2])
    config = inference(network, before, window(16, 16, 16), compose(ARGMAX, largest, invert(), SAVE))
    return config, metadata("Prostate MRI anatomy", ["image"], ["background", "central gland", "peripheral zone"])


def _pediatric() -> tuple[Any, Any]:
    network = {
        "_target_": "monai.networks.nets.DynUNet", "spatial_dims": "$len(@spatial_size)", "in_channels": 1,
        "out_channels": 4, "kernel_size": [3, 3, 3], "strides": [1, 2, [2, 2, 1]], "filters": [4, 8, 16],
        "upsample_kernel_size": [2, [2, 2, 1]], "norm_name": "instance", "deep_supervision": False, "res_block": True,
    }  # fmt: skip
    before = compose(
        *READ,
        step("Orientationd", "image", axcodes="RAS"),
        step("Spacingd", ["@image_key"], pixdim=[1.5, 1.5, 3.0], mode=["bilinear"]),
        scaled(-250, 400),
        step("CropForegroundd", ["@image_key"], source_key="@image_key", mode=["minimum"]),
        step("CastToTyped", dtype="$torch.float32"),
    )
    after = compose(SOFTMAX, invert(), ARGMAX, SAVE | {"output_dtype": "$torch.int16"})
    labels = {"background": 0, "liver": 1, "spleen": 2, "pancreas": 3}
    config = inference(
        network, before, window(16, 16, 16, overlap=0.75), after, labels=labels, spatial_size=[16, 16, 16]
    )
    return config, metadata("CT-Ped-Abdominal-Seg", ["image"], None, modality="CT")


def _whole_body() -> tuple[Any, Any]:
    before = compose(
        step("LoadImaged"), TYPED, step("EnsureChannelFirstd"), RAS,
        step("Spacingd", pixdim="@pixdim", mode="bilinear"),
        step("NormalizeIntensityd", nonzero=True), step("ScaleIntensityd", minv=-1.0, maxv=1.0),
    )  # fmt: skip
    inferer = window(
        16, 24, 16, sw_batch_size="@displayable_configs#sw_batch_size", overlap="@displayable_configs#sw_overlap",
        padding_mode="replicate", mode="gaussian",
        device="$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    )  # fmt: skip
    config = inference(
        SEGRESNET, before, inferer, compose(SOFTMAX, ARGMAX, invert(nearest=True), SAVE),
        displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        modelname="$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
    )  # fmt: skip
    outputs = ["background", *(f"organ_{at}" for at in range(1, 105))]
    return config, metadata("Whole body CT segmentation", ["image"], outputs, modality="CT")


def _btcv() -> tuple[Any, Any]:
    network = {
        "_target_": "monai.networks.nets.unetr.UNETR", "in_channels": 1, "out_channels": 14, "img_size": "@sizes",
        "norm_name": "batch", "feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2,
    }  # fmt: skip
    before = compose(*READ, RAS, spacing(1.5, 1.5, 2.0), scaled(-175, 250), TYPED)
    inferer = window(roi_size="@sizes")
    config = inference(network, before, inferer, compose(SOFTMAX, invert(), ARGMAX, SAVE), sizes="$[16 * 2, 16, 16]")
    organs = ["background", "spleen", "Right Kidney", *(f"organ {at}" for at in range(3, 11)), "Pancreas", "a", "b"]
    return config, metadata("BTCV segmentation", ["image"], organs, modality="CT")


def _pancreas() -> tuple[Any, Any]:
    """Its architecture lies in a file beside the weights; `write` makes it."""
    network = {
        "_target_": "monai.networks.nets.DiNTS", "dints_space": "@dints_space", "in_channels": "@input_channels",
        "num_classes": "@output_classes", "use_downsample": True, "node_a": "$torch.from_numpy(@arch_ckpt['node_a'])",
    }  # fmt: skip
    space = {
        "_target_": "monai.networks.nets.TopologyInstance", "channel_mul": 0.125, "num_blocks": 3, "num_depths": 2,
        "use_downsample": True, "arch_code": ["$@arch_ckpt['arch_code_a']", "$@arch_ckpt['arch_code_c']"],
        "device": "$torch.device('cpu')",
    }  # fmt: skip
    before = compose(*READ, RAS, spacing(1, 1, 1), scaled(-87, 199), TYPED)
    config = inference(
        network, before, window(16, 16, 16, overlap=0.625), compose(SOFTMAX, invert(), ARGMAX, SAVE),
        input_channels=1, output_classes=3, dints_space=space,
        arch_ckpt_path="$@bundle_root + '/models/search_code_18590.pt'",
        arch_ckpt="$torch.load(@arch_ckpt_path, map_location=torch.device('cpu'), weights_only=False)",
    )  # fmt: skip
    outputs = ["background", "pancreas", "pancreatic tumor"]
    return config, metadata("Pancreas CT DiNTS segmentation", ["image"], outputs, modality="CT")


SEARCHED = {
    "node_a": np.ones((4, 2)), "arch_code_a": np.ones((3, 4)), "arch_code_c": np.arange(12).reshape(3, 4) % 5,
    "iter_num": 18590, "best_dsc": np.float64(0.6),
}  # fmt: skip


def _template() -> tuple[Any, Any]:
    network = {
        "_target_": "AttentionUnet", "spatial_dims": 3, "in_channels": 2, "out_channels": 1, "channels": [4, 8],
        "strides": [2],
    }  # fmt: skip
    percentiles = step(
        "ScaleIntensityRangePercentilesd", "@image", lower=2, upper="$100 - 2.0", b_min=-1.0, b_max=1.0, clip=True,
        relative=False, channel_wise=True,
    )  # fmt: skip
    config = inference(
        network,
        {"_target_": "Compose", "transforms": "$@reading + @scaling"},
        window(16, 32, 16, mode="gaussian", sigma_scale=0.2, padding_mode="reflect", overlap=0.3),
        compose(step("Activationsd", "@pred", sigmoid=True), step("AsDiscreted", "@pred", threshold=0.5), SAVE),
        image="$monai.utils.CommonKeys.IMAGE",
        pred="$monai.utils.CommonKeys.PRED",
        reading=[step("LoadImaged", "@image", image_only=True), step("EnsureChannelFirstd", "@image")],
        scaling=[percentiles],
    )
    return config, metadata("Segmentation Template", ["T2", "ADC"], ["lesion"])


def _real(name: str, network: dict[str, Any], *roi: int) -> tuple[Any, Any]:
    """One that the zoo has published, with a smaller network and tile."""
    folder = SHARED / "bundles" / name / "configs"
    config = json.loads((folder / "inference.json").read_text())
    config["network_def"] |= network
    config["inferer"] |= {"roi_size": list(roi)}
    return config, json.loads((folder / "metadata.json").read_text())


BUNDLES = {
    "spleen_ct": _spleen,
    "brats_mri": _brats,
    "prostate_mri": _prostate,
    "pediatric_abdominal_ct": _pediatric,
    "wholeBody_ct": _whole_body,
    "btcv": _btcv,
    "segmentation_template": _template,
    "pancreas_ct_dints": _pancreas,
}
if (SHARED / "bundles").is_dir():
    small = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
    BUNDLES |= {
        "the zoo's spleen_ct": lambda: _real(
            "spleen_ct_segmentation", {"channels": [4, 8], "strides": [2]}, 16, 16, 16
        ),
        "the zoo's brats_mri": lambda: _real("brats_mri_segmentation", small, 16, 16, 16),
    }


def write(root: Path, config: dict[str, Any], described: dict[str, Any], changed: Any = None) -> Path:
    """Write a bundle with random weights, whose logits are far enough apart for masks that say something.

    The network is that of `config`; what is written has the keys of `changed` too.
    """
    from monai.bundle import ConfigParser

    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    if "arch_ckpt" in config:
        torch.save(SEARCHED, root / "models" / "search_code_18590.pt")
    torch.manual_seed(0)
    network = ConfigParser(deepcopy(config) | {"bundle_root": str(root)}).get_parsed_content("network_def")
    last = [layer for layer in network.modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)][-1]
    with torch.no_grad():
        last.weight *= 10
        if last.bias is not None:
            last.bias.zero_()
    (root / "configs" / "inference.json").write_text(json.dumps(config | (changed or {}), indent=4))
    (root / "configs" / "metadata.json").write_text(json.dumps(described, indent=4))
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


# Shape (x, y, z), mm, and which way the axes point.
CASES = {
    "flipped, thick slices": ((30, 34, 11), (1.1, 0.9, 4.0), np.diag([-1, -1, 1])),
    "axes exchanged, oblique": (
        (14, 36, 22),
        (3.0, 1.2, 1.4),
        np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]]) @ Rotation.from_euler("xyz", (9, -7, 12), True).as_matrix(),
    ),
}


def write_case(folder: Path, name: str, channels: int, called: str = "case") -> list[Path]:
    """Smooth blobs in air of exactly 0, a file for each channel."""
    shape, mm, direction = CASES[name]
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(mm)
    affine[:3, 3] = (-30.5, 12, 7)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for channel in range(channels):
        rng = np.random.default_rng(len(name) + channel)
        hu = (gaussian_filter(rng.normal(0, 1, shape), 1.5) * 900 + 80).astype(np.int16)
        hu[:3], hu[:, :2] = 0, 0
        paths.append(folder / f"{called}_{channel:04}.nii.gz")
        nib.save(nib.Nifti1Image(hu, affine), paths[-1])
    return paths


class Evaluator:
    """MONAI's own evaluator of a bundle, made by its ConfigParser, which runs what the configuration holds."""

    def __init__(self, root: Path, images: list[Path], out: Path) -> None:
        from monai.bundle import ConfigParser

        self.parser = ConfigParser()
        self.parser.read_config(str(root / "configs" / "inference.json"))
        files = [str(path) for path in images]
        changed = {"bundle_root": str(root), "output_dir": str(out), "device": "$torch.device('cpu')"}
        changed |= {"dataset#data": [{"image": files[0] if len(files) == 1 else files}], "dataloader#num_workers": 0}
        changed |= {"evaluator#amp": False}
        for key, value in changed.items():
            self.parser[key] = value
        self.network = self.parser.get_parsed_content("network").eval()
        self.network.load_state_dict(torch.load(root / "models" / "model.pt"))

    def mask(self) -> NDArray[np.float32]:
        """What it writes for the case."""
        self.parser.get_parsed_content("evaluator").run()
        (written,) = Path(self.parser["output_dir"]).rglob("*.nii.gz")
        return np.asarray(nib.load(written).dataobj).squeeze()

    @torch.no_grad()
    def logits(self) -> torch.Tensor:
        """What its inferer gives for the case, ``[C, D, H, W]`` of the prepared volume."""
        case = self.parser.get_parsed_content("dataset")[0]
        image = case[self.parser.get_parsed_content("image_key")]
        return self.parser.get_parsed_content("inferer")(image[None], self.network)[0].as_tensor()
