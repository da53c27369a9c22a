"""Checkpoints that nnU-Net's own trainer wrote."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model

from models.options import ModelOptions
from models.task import Structure
from tests.loading import load
from tests.nnunet import (
    DATASETS,
    architecture,
    change,
    outputs,
    planned,
    plans,
    refused,
    segmentation_network,
    train,
    weights,
)  # fmt: skip

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

X = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
RESIDUAL = architecture("ResidualEncoderUNet", n_blocks_per_stage=[1, 2, 2])
BATCH_NORM = architecture(
    norm_op="torch.nn.BatchNorm3d", nonlin="torch.nn.ReLU", dropout_op="torch.nn.modules.dropout.Dropout3d",
    dropout_op_kwargs={"p": 0.2}, nonlin_first=True,
)  # fmt: skip


@pytest.mark.parametrize("held", [architecture(), RESIDUAL, BATCH_NORM], ids=["plain", "residual", "batch norm"])
def test_outputs_are_bit_equal_to_those_of_nnunets_network(held, tmp_path):
    its_plans = plans(architecture=held)
    path = train(tmp_path, its_plans)
    source = segmentation_network(its_plans)
    source.load_state_dict(weights(path))
    model, checkpoint = load(path)
    segmentation, placeholder = outputs(model, X)
    with torch.inference_mode():
        assert torch.equal(segmentation, source(X))
    assert placeholder.shape == (2, 1)
    assert model.architecture == f"nnunet-{held['network_class_name'].rpartition('.')[2]}"
    assert (model.tile, model.labels, model.subtypes, model.width) == ((8, 16, 16), (0, 1, 2), 0, 4)
    assert model.plans.configuration == "3d_fullres"
    assert "deep supervision is off: 1 of its outputs left out" in model.remarks
    assert (checkpoint.epoch, checkpoint.metrics) == (1, {"_best_ema": 0.75})
    assert checkpoint.init["configuration"] == "3d_fullres"
    assert checkpoint.init["device"] == "cpu"
    assert len({tensor.data_ptr() for tensor in checkpoint.state.values()}) < len(checkpoint.state) / 2, "copied once"


def test_a_trainer_of_nnunet_that_puts_batch_norms_into_the_network_of_the_plans(tmp_path):
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

    path = train(tmp_path, trainer_class=nnUNetTrainerBN)
    norms = {"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    source = segmentation_network(plans(architecture=architecture(**norms)))
    source.load_state_dict(weights(path))
    model, _ = load(path)
    with torch.inference_mode():
        assert torch.equal(outputs(model, X)[0], source(X))
    assert (
        "batch norms in the place of its plans' instance norms, as nnUNetTrainerBN trains (eps 1e-5)" in model.remarks
    )


@pytest.mark.parametrize("name", ["BrainTumour", "BrainRegions", "RegionsAndScribbles"])
def test_channels_and_outputs_are_those_of_the_data_set(name, tmp_path):
    dataset = DATASETS[name]
    its_plans = planned(dataset)
    path = train(tmp_path, its_plans, dataset)
    channels, regions = len(dataset["channel_names"]), dataset.get("regions_class_order")
    source = segmentation_network(its_plans, len(regions or dataset["labels"]), channels)
    source.load_state_dict(weights(path))
    model, _ = load(path)
    x = torch.rand(2, channels, 8, 16, 16)
    with torch.inference_mode():
        assert torch.equal(outputs(model, x)[0], source(x))
    assert model.channels == channels
    expected = (tuple(regions), tuple(range(len(regions)))) if regions else ((0, 1, 2, 3), None)
    assert (model.labels, model.painting) == expected


def test_the_users_task_takes_the_place_of_the_data_sets_where_both_are_of_one_network(tmp_path):
    dataset = DATASETS["BrainRegions"]
    path = train(tmp_path, planned(dataset), dataset)
    own = load(path)[0].task
    first, second, *rest = own.channels
    wanted = replace(own, name="other", structures={"all": Structure(labels=(1, 2, 3)), **own.structures})
    model = load(path, ModelOptions(task=wanted))[0]
    assert (model.task, model.labels, model.painting) == (wanted, own.output_labels, own.output_painting)
    swapped = replace(wanted, channels=(second, first, *rest))
    said = f"its dataset.json and the task other say the channels {first}, {second}, t1gd, T2w and {second}, {first}, "
    refused(path, said, ModelOptions(task=swapped))


def test_the_folder_of_a_training_is_its_fold(trained, copied):
    results, expected = copied.parent.parent, load(trained)[0].sha256
    for folder in (results, copied.parent):
        model, checkpoint = load(folder)
        assert (model.sha256, checkpoint.path) == (expected, copied)
    copied.rename(copied.with_name("checkpoint_best.pth"))
    assert "checkpoint_best.pth of fold_0 was taken, which has no checkpoint_final.pth" in load(results)[0].remarks
    shutil.copytree(copied.parent, results / "fold_all")
    refused(results, "holds the networks of 2 folds (fold_0, fold_all); give one, such as")
    assert load(results / "fold_all")[0].sha256 == expected
    refused(trained.parents[2], "holds trainings of nnU-Net (nnUNetTrainer__nnUNetPlans__3d_fullres); give one of them")
    copied.with_name("checkpoint_best.pth").unlink()
    refused(copied.parent, "is a results folder of nnU-Net without checkpoint_final.pth in fold_0")


def test_the_folders_name_tells_the_configuration(copied):
    results = copied.parent.parent
    lowres = results.rename(results.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres"))
    refused(lowres, "says that it is of nnU-Net's 3d_fullres, and lies in a folder of 3d_lowres")
    moved = lowres / copied.relative_to(results)
    change(
        moved,
        "plans.json",
        lambda held: held["configurations"].update(
            {"3d_lowres": held["configurations"]["3d_fullres"] | {"spacing": [6.0, 2.0, 2.0]}}
        ),
    )
    torch.save(weights(moved), moved)
    model, _ = load(lowres)
    assert model.plans.configuration == "3d_lowres"
    assert model.plans.plans["configurations"]["3d_lowres"]["spacing"] == [6.0, 2.0, 2.0]


def test_the_plans_in_the_checkpoint_do_where_no_files_lie_beside_it(trained, tmp_path):
    alone = shutil.copy(trained, tmp_path / "model.pth")
    model, original = load(Path(alone))[0], load(trained)[0]
    assert model.sha256 == original.sha256
    assert model.code == original.code
    assert torch.equal(outputs(model, X)[0], outputs(original, X)[0])


def test_bare_weights_beside_plans_also_without_the_doubles(trained, copied):
    expected = outputs(load(trained)[0], X)[0]
    torch.save(weights(copied), copied.with_name("bare.pth"))
    assert torch.equal(outputs(load(copied.with_name("bare.pth"))[0], X)[0], expected)
    network = segmentation_network(plans())
    network.load_state_dict(weights(copied))
    save_model(network, str(copied.with_name("single.safetensors")))  # which keeps one name of each tensor
    single, checkpoint = load(copied.with_name("single.safetensors"))
    assert len(checkpoint.state) < len(weights(copied)) / 2
    assert torch.equal(outputs(single, X)[0], expected)


def test_weights_that_are_not_those_of_the_plans(copied):
    wider = architecture(features_per_stage=[6, 8, 16])
    change(copied, "plans.json", lambda held: held["configurations"]["3d_fullres"].update(architecture=wider))
    refused(copied, "its weights are not those of its plans' PlainConvUNet")


def test_doubles_that_differ(copied):
    state = weights(copied)
    name = next(name for name in state if name.startswith("decoder.encoder."))
    state[name] = state[name] + 1
    torch.save(state, copied)
    refused(copied, "holds different values for")


def test_without_plans(copied, tmp_path):
    torch.save(weights(copied), tmp_path / "bare.pth")
    refused(tmp_path / "bare.pth", "is a network of nnU-Net without its plans.json")


def test_bare_weights_and_several_configurations(copied):
    torch.save(weights(copied), copied)
    change(
        copied,
        "plans.json",
        lambda held: held["configurations"].update({"3d_lowres": {}, "2d": {"patch_size": [8, 8]}}),
    )
    refused(copied, "does not say which is its own")


def test_the_window_and_the_tile_are_the_plans(trained):
    refused(trained, "leave --tile and --window out", ModelOptions(window=(-100.0, 200.0)))
    refused(trained, "leave --tile and --window out", ModelOptions(tile=(16, 16, 16)))


def test_a_results_folder_of_links_is_read_by_its_names(copied, tmp_path):
    """As in Hugging Face's cache, git-annex and DVC, where the targets have no names and no neighbours."""
    expected, store = load(copied)[0].sha256, tmp_path / "store"
    store.mkdir()
    for number, path in enumerate(sorted(p for p in copied.parent.parent.rglob("*") if p.is_file())):
        path.rename(store / str(number))
        path.symlink_to(store / str(number))
    torch.save(weights(copied), store / "bare")
    copied.with_name("bare.pth").symlink_to(store / "bare")
    assert load(copied)[0].sha256 == expected
    assert load(copied.with_name("bare.pth"))[0].plans is not None
