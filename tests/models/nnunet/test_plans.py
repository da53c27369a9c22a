"""nnU-Net's plans and dataset.json: read as nnU-Net does, and refused where they want what they must not get."""

import json
import sys

import pytest
import torch

from tests.loading import load
from tests.nnunet import architecture, change, forget_plans, outputs, plans, refused

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

X = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))


def test_plans_before_nnunet_2_4(trained, copied):
    def older(held):
        configuration = held["configurations"]["3d_fullres"]
        arguments = configuration.pop("architecture")["arch_kwargs"]
        configuration |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 320,
            "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
            "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [1, 2, 2],
            "pool_op_kernel_sizes": arguments["strides"],
            "conv_kernel_sizes": arguments["kernel_sizes"],
        }

    change(copied, "plans.json", older)
    assert torch.equal(outputs(load(copied)[0], X)[0], outputs(load(trained)[0], X)[0])


def test_a_configuration_that_inherits(trained, copied):
    def inheriting(held):
        held["configurations"]["base"] = held["configurations"]["3d_fullres"]
        held["configurations"]["3d_fullres"] = {"inherits_from": "base", "batch_size": 4}

    change(copied, "plans.json", inheriting)
    assert load(copied)[0].code == load(trained)[0].code


def test_a_dataset_that_nnunet_would_not_train_by(copied):
    change(copied, "dataset.json", lambda held: held.update(labels={"background": 0, "pancreas": 1, "lesion": 3}))
    refused(copied, "come with a dataset.json whose labels are not 0, 1, 2, ... with background 0")


def test_a_region_that_is_called_like_a_part_without_a_name(copied):
    forget_plans(copied)
    labels = {"background": 0, "whole": [1, 2], "label 1": 2}
    change(copied, "dataset.json", lambda held: held.update(labels=labels, regions_class_order=[1, 2]))
    refused(copied, "its dataset.json cannot be used: the structure whole has the label 1, which is none; correct it")


HOSTILE = {
    "name the network 'os.system'": ("architecture", {**architecture(), "network_class_name": "os.system"}),
    "name the network 'dynamic_network_architectures.os.system'": (
        "architecture", {**architecture(), "network_class_name": "dynamic_network_architectures.os.system"}),
    "name 'subprocess.Popen' as conv_op": ("architecture", architecture(conv_op="subprocess.Popen")),
    "name 'torch.nn.modules.os.system' as nonlin": ("architecture", architecture(nonlin="torch.nn.modules.os.system")),
    "name 'lambda: 0' as norm_op": ("architecture", architecture(norm_op="lambda: 0")),
    "want to import features_per_stage": (
        "architecture", {**architecture(), "_kw_requires_import": ["features_per_stage"]}),
    "give the network shell = True": ("architecture", architecture(shell=True)),
    "give the network n_stages = '100000'": ("architecture", architecture(n_stages=100000)),
    "give the network features_per_stage": ("architecture", architecture(features_per_stage=[10**9, 8, 16])),
    "give the network n_conv_per_stage": ("architecture", architecture(n_conv_per_stage=[10**6, 1, 1])),
    "give the network kernel_sizes": ("architecture", architecture(kernel_sizes=[[9999] * 3] * 3)),
    "give the network norm_op_kwargs": ("architecture", architecture(norm_op_kwargs={"device": "cuda"})),
    "name the preprocessor 'os.system'": ("preprocessor_name", "os.system"),
    "name the resampling function 'run'": ("resampling_fn_data", "run"),
    "resample with device": ("resampling_fn_data_kwargs", {"device": "cuda"}),
    "resample with order": ("resampling_fn_seg_kwargs", {"order": 10**9}),
    "name the normalisation 'main'": ("normalization_schemes", ["main"]),
    "have the spacing": ("spacing", [1e-9, 1.0, 1.0]),
    "have the patch size": ("patch_size", [10**6, 10**6, 10**6]),
    "of a 2d network": ("patch_size", [16, 16]),
    "of a cascade": ("previous_stage", "3d_lowres"),
    "normalise 2 channels, and the dataset.json names 1": ("normalization_schemes", ["CTNormalization"] * 2),
    "is no multiple of its network's strides, 2 x 4 x 4": ("patch_size", [8, 16, 18]),
    "no configuration of nnU-Net": ("n_conv_per_stage_encoder", [1] * 10**5),
}  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE)
def test_nothing_that_plans_name_is_run_or_built_unless_it_is_known(copied, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_plans(copied)
    key, value = HOSTILE[said]
    change(copied, "plans.json", lambda held: held["configurations"]["3d_fullres"].update({key: value}))
    before = set(sys.modules)
    refused(copied, said.replace("= True", "= 'True'"))
    assert not {name for name in set(sys.modules) - before if not name.startswith(("nnunetv2", "dynamic_network"))}


def test_plans_that_name_a_module_of_the_folder_do_not_import_it(copied, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('marker', 'w').close()\nclass Conv3d: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for key in ("image_reader_writer", "label_manager", "conv_op", "network_class_name"):
        broken = plans()
        arch = broken["configurations"]["3d_fullres"]["architecture"]
        {"conv_op": arch["arch_kwargs"], "network_class_name": arch}.get(key, broken)[key] = "evil.Conv3d"
        (copied.parent.parent / "plans.json").write_text(json.dumps(broken))
        refused(copied, "evil.Conv3d")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "holds a list"),
        ('{"configurations": {}}', "have no configurations"),
        ('{"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}', "transpose_forward"),
        (json.dumps(plans() | {"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}), "Circular"),
        (json.dumps(plans() | {"configurations": {"2d": {}}}), "no configuration '3d_fullres'"),
        (json.dumps(plans() | {"transpose_forward": [0, 0, 1]}), "transpose axes"),
        (json.dumps(plans() | {"foreground_intensity_properties_per_channel": {}}), "intensities"),
    ],
)
def test_damaged_plans(copied, text, said):
    (copied.parent.parent / "plans.json").write_text(text)
    refused(copied, said)


OTHER_TRAINING = {
    "plans.json differs in spacing ([1.0, 1.0, 1.0], in the checkpoint [3.0, 1.0, 1.0]); put plans.json and": (
        "plans.json", lambda held: held["configurations"]["3d_fullres"].update(spacing=[1.0, 1.0, 1.0])),
    "plans.json differs in patch size, normalisation (": (
        "plans.json", lambda held: held["configurations"]["3d_fullres"].update(
            patch_size=[8, 32, 32], normalization_schemes=["ZScoreNormalization"])),
    "plans.json differs in intensities (": (
        "plans.json", lambda held: held["foreground_intensity_properties_per_channel"]["0"].update(mean=-500.0)),
    "dataset.json differs in labels (": (
        "dataset.json", lambda held: held.update(labels={"background": 0, "lesion": 1, "pancreas": 2})),
    "dataset.json differs in channels (": ("dataset.json", lambda held: held.update(channel_names={"0": "MRI"})),
}  # fmt: skip


@pytest.mark.parametrize("said", OTHER_TRAINING)
def test_plans_of_another_training_beside_it(copied, said):
    """One folder up lie those of whatever was trained there last; the checkpoint holds its own."""
    change(copied, *OTHER_TRAINING[said])
    refused(copied, said)


def test_what_does_not_decide_on_masks_may_differ(trained, copied):
    change(copied, "plans.json", lambda held: held["configurations"]["3d_fullres"].update(batch_size=7))
    change(copied, "dataset.json", lambda held: held.update(labels=dict(reversed(held["labels"].items()))))
    assert load(copied)[0].task == load(trained)[0].task


def test_both_files_come_from_one_folder(trained, copied):
    """Of a dataset.json alone beside it, without the plans, the rest is what the checkpoint holds."""
    above = copied.parent.parent
    (copied.parent / "dataset.json").write_text((above / "dataset.json").read_text())
    change(copied, "plans.json", lambda held: held["configurations"]["3d_fullres"].update(spacing=[1.0, 1.0, 1.0]))
    assert load(copied)[0].plans == load(trained)[0].plans
    forget_plans(copied)
    refused(copied, "is a network of nnU-Net without its plans.json")
