"""Which of a bundle's transforms are let through, with which arguments."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import CheckpointError
from models.inspection import describe, inspect
from models.monai.config import Config
from models.monai.transforms import after, before, with_inverse
from tests.bundles import (
    ARGMAX,
    BUNDLES,
    HALF,
    RAS,
    READ,
    SIGMOID,
    SOFTMAX,
    WHERE,
    compose,
    invert,
    spacing,
    step,
    write,
)
from tests.models.monai.test_bundle import TOUCH

SCALED = {"a_min": -87, "a_max": 199, "b_min": 0, "b_max": 1, "clip": True}


def configured(*steps: Any, **values: Any) -> Config:
    return Config(
        Path("root"),
        Path("root/configs/inference.json"),
        {"image_key": "image", "preprocessing": compose(*steps), **values},
    )


@pytest.mark.parametrize("name", BUNDLES)
def test_bundles_of_the_zoo_are_inspected(name: str, tmp_path: Path) -> None:
    info = inspect(write(tmp_path / "root", *BUNDLES[name]()))
    assert info["architecture"] is not None, info["architecture_reason"]
    assert info["bundle"]["preprocessing"]
    assert (info["plans"], info["window"], info["code_run"]) == (None, None, [])
    text = describe(info)
    assert "preprocessing" in text
    assert "inferer" in text
    assert "the bundle's metadata.json" in text


def test_steps_that_only_read_write_or_train_are_left_out() -> None:
    config = configured(
        *READ,
        RAS,
        step("EnsureTyped", ["image", "label"], dtype=["$torch.float32", "$torch.uint8"]),
        step("CastToTyped", "label", dtype="$torch.uint8"),
        step("Lambdad", "label", func=TOUCH),
        step("RandFlipd", ["image", "label"], prob=TOUCH),
        spacing(1, 2, 3)
        | {"keys": ["label", "image"], "mode": ["nearest", "bilinear"], "_disabled_": "$not @image_key"},
        spacing(9, 9, 9) | {"_disabled_": "$not False"},
        {"_target_": "monai.transforms.ScaleIntensityRange", **SCALED},
    )
    assert before(config).steps == (
        ("Orientationd", {"axcodes": "RAS"}),
        ("Spacingd", {"pixdim": [1, 2, 3], "mode": "bilinear"}),
        ("ScaleIntensityRanged", SCALED),
    )


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": (step("GaussianSmoothd"), "0 is GaussianSmoothd; of MONAI's transforms of volumes Orientationd, "),
    "own code": (step("scripts.transforms.Own"), "0 is scripts.transforms.Own"),
    "own code of a known name": (step("scripts.Spacingd", pixdim=1), "0 is scripts.Spacingd"),
    "own code that reads": (step("scripts.LoadImaged"), "0 is scripts.LoadImaged"),
    "another package": (step("os.system"), "0 is os.system"),
    "lambda": (step("Lambdad", func=TOUCH), "0 is Lambdad"),
    "step as code": (TOUCH, "0 is an expression"),
    "disabled by code": (step("Spacingd", pixdim=1, _disabled_=TOUCH), "0::_disabled_ is an expression"),
    "keys by code": (step("Spacingd", TOUCH, pixdim=1), "0::keys is an expression"),
    "argument by code": (step("ScaleIntensityRanged", **SCALED | {"a_min": TOUCH}), "0::a_min is an expression"),
    "argument that is made": (step("ScaleIntensityd", minv={"_target_": "os.system"}), "0::minv is to be made by "),
    "function": (step("CropForegroundd", select_fn="$lambda x: x > 0"), "0::select_fn is an expression"),
    "function by name": (step("CropForegroundd", select_fn="os.system"), "0::select_fn is 'os.system'"),
    "crop by another image": (step("CropForegroundd", source_key="label"), "0::source_key is of another image"),
    "unknown argument": (step("ScaleIntensityRanged", **SCALED, scale=1), "0::scale is '1'"),
    "infinite": (step("ScaleIntensityRanged", **SCALED | {"a_max": float("inf")}), "0::a_max is 'inf'"),
    "no number": (step("ScaleIntensityRanged", **SCALED | {"a_max": "199"}), "0::a_max is '199'"),
    "no flag": (step("NormalizeIntensityd", nonzero="True"), "0::nonzero is 'True'"),
    "two axes": (spacing(1, 1), r"0::pixdim is '[1, 1]'"),
    "axes that are none": (step("Orientationd", axcodes="XYZ"), "0::axcodes is 'XYZ'"),
    "huge padding": (step("SpatialPadd", spatial_size=10**6), "0::spatial_size is '1000000'"),
    "several images": (step("Spacingd", ["artery", "vein"], pixdim=1), "0 works on several images (artery, vein)"),
    "another type": (step("CastToTyped", dtype="$torch.float16"), "0::dtype is float16"),
}  # fmt: skip


@pytest.mark.parametrize("route", REFUSED)
def test_other_steps_before_the_network_are_refused(route: str, marker: Path) -> None:
    steps, said = REFUSED[route]
    refused(before, configured(steps), f"root/configs/inference.json: its preprocessing::transforms::{said}")


AFTER: dict[str, tuple[list[Any], str]] = {
    "own code": ([step("scripts.MergeClassesd", "pred")], "0 is scripts.MergeClassesd; of MONAI's transforms of "),
    "lambda": ([step("Lambdad", "pred", func=TOUCH)], "0 (Lambdad) is no torch.where over channels"),
    "own lambda": ([step("scripts.Lambdad", "pred", func=WHERE)], "0 (scripts.Lambdad) is no torch.where"),
    "no lambda": ([step("Lambdad", "pred", func=TOUCH[1:])], "0 (Lambdad) is no torch.where"),
    "after painting": ([step("Lambdad", "pred", func=WHERE), invert()], "1 comes after the Lambdad"),
    "function": ([SIGMOID | {"other": "$lambda x: x"}], "0::other is an expression"),
    "function of an inverse": ([invert() | {"post_func": "$torch.sigmoid"}], "0::post_func is an expression"),
}  # fmt: skip


@pytest.mark.parametrize("route", AFTER)
def test_other_steps_after_the_network_are_refused(route: str, marker: Path) -> None:
    steps, said = AFTER[route]
    refused(after, configured(postprocessing=compose(*steps)), f"its postprocessing::transforms::{said}")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"preprocessing": TOUCH}, "its preprocessing is an expression"),
        ({"preprocessing": {"_target_": "Compose", "transforms": TOUCH}}, "preprocessing::transforms is an expression"),
        ({"preprocessing": {"_target_": "Compose", "transforms": "$@image_key"}}, "is no list of transforms"),
        ({"preprocessing": {"_target_": "os.system", "command": TOUCH}}, "its preprocessing is no Compose of "),
        ({"preprocessing": {"_target_": "Compose", "transforms": "$@x + @x"}, "x": "@x"}, "its x refers to itself"),
        ({"preprocessing": {"_target_": "Compose", "transforms": "@x"}, "x": ["$@x[0]"]}, "its x::0 is no transform"),
    ],
)  # fmt: skip
def test_preprocessing_that_is_no_list_is_refused(values: dict[str, Any], said: str, marker: Path) -> None:
    refused(before, configured(**values), said)


def refused(read: Any, config: Config, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(config)
    assert said in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_masks_come_back_onto_their_images_grids() -> None:
    moved, still = before(configured(RAS, spacing(1, 1, 1))), before(configured(step("NormalizeIntensityd")))

    def after_all(*steps: Any, first: Any = moved) -> tuple[list[str], tuple[str, ...]]:
        made, said = with_inverse(first, after(configured(postprocessing=compose(*steps))))
        return [name for name, _ in made], said

    assert after_all(SOFTMAX, invert(), ARGMAX) == (["Activationsd", "Invertd", "AsDiscreted"], ())
    assert after_all(ARGMAX, invert(nearest=True)) == (["AsDiscreted", "Invertd"], ())
    assert after_all(ARGMAX, invert())[1] == (
        "its Invertd interpolates between labels: the values it gives are rounded",
    )
    assert after_all(SIGMOID, invert(), HALF, first=still) == (["Activationsd", "AsDiscreted"], ())
    names, said = after_all(ARGMAX)
    assert names == ["AsDiscreted", "Invertd"]
    assert said == (
        "its postprocessing does not undo Orientationd, Spacingd: masks are brought back by nearest neighbours",
    )
