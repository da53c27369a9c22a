"""Which networks may be averaged, and which folds are those of a training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.ensemble import Ensemble, ensemble_of, members_of, refuse_unlike
from models.errors import CheckpointError
from models.model import Model
from models.reader.source import fold_folders
from tests.loading import load
from tests.nnunet import architecture, change, forget_plans, outputs, plans, train

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The results folder of three folds."""
    root = tmp_path_factory.mktemp("trained")
    trained = [train(root, fold=fold) for fold in (0, 1, 2)]
    return trained[0].parents[1]


@pytest.fixture(scope="module")
def members(results) -> list[tuple[Path, Model]]:
    return [(folder, load(folder)[0]) for folder in fold_folders(results, "all")]


def reason(path: Path, model: Model, others: list[tuple[Path, Model]]) -> str:
    with pytest.raises(CheckpointError) as caught:
        refuse_unlike(path, model, others)
    assert str(caught.value).isprintable()
    assert "; " in str(caught.value), "no remedy"
    return str(caught.value)


def test_the_mean_of_the_folds_of_a_training(members):
    for at in (1, 2):
        refuse_unlike(*members[at], members[:at])
    models = [model for _, model in members]
    x = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    whole = ensemble_of(models)
    expected = [torch.stack(logits).mean(0) for logits in zip(*(outputs(each, x) for each in models), strict=True)]
    for ours, mean in zip(outputs(whole, x), expected, strict=True):
        assert torch.equal(ours, mean)
    assert isinstance(whole.module, Ensemble)
    assert members_of(whole.module) == tuple(model.module for model in models)
    assert ensemble_of(models[:1]) is models[0]
    assert members_of(models[0].module) == (models[0].module,)


def test_networks_that_do_not_belong_together(results, members, tmp_path):
    (path, model), (further_path, further), _ = members
    others = [members[0]]
    same = shutil.copytree(path, tmp_path / "again")
    assert f"has the same weights as {path}; name each" in reason(same, model, others)
    wide = train(tmp_path / "wide", plans(architecture=architecture(features_per_stage=[6, 8, 16])))
    said = f"is no network of an ensemble with {path}: it differs in its width (6, there 4); give networks of one"
    assert said in reason(wide, load(wide)[0], others)
    for changes, words in (
        ({"architecture": "nnunet-ResidualEncoderUNet"}, "in its architecture (nnunet-ResidualEncoderUNet, there"),
        ({"labels": (0, 2, 1)}, "in its labels (0, 2, 1, there 0, 1, 2)"),
        ({"mirror_axes": ()}, "in its allowed mirroring (none, there 0, 1, 2)"),
        ({"code": "other"}, "in its code"),
    ):
        assert words in reason(further_path, replace(further, **changes), others)
    spaced = shutil.copytree(results, tmp_path / results.name)
    forget_plans(spaced / "fold_1" / "checkpoint_final.pth")
    change(
        spaced / "fold_1" / "x",
        "plans.json",
        lambda held: held["configurations"]["3d_fullres"].update(spacing=[3, 1, 2]),
    )
    assert "it differs in its nnU-Net plans or dataset.json; give networks of one training" in reason(
        spaced / "fold_1", load(spaced / "fold_1")[0], others
    )


def test_the_folds_of_a_training(results, tmp_path):
    folders = fold_folders(results, "all")
    assert [folder.name for folder in folders] == ["fold_0", "fold_1", "fold_2"]
    assert fold_folders(results, "2,0") == (folders[2], folders[0])
    only = tmp_path / results.name
    shutil.copytree(folders[0], only / "fold_all")
    assert fold_folders(only, "all") == (only / "fold_all",)
    (only / "fold_3").mkdir()
    for path, wanted, said in (
        (results, "0,4,5", "has no fold_4, fold_5; choose from 0, 1, 2"),
        (only, "all", "has no checkpoint_final.pth in fold_3; train it to its end, or name the folds"),
        (folders[0], "all", "is no results folder of nnU-Net, whose folds could be named; leave --folds out"),
        (folders[0] / "checkpoint_final.pth", "0", "is no results folder"),
    ):
        with pytest.raises(CheckpointError) as caught:
            fold_folders(path, wanted)
        assert f"{path}: {said}" in str(caught.value)


def test_the_axes_that_nnunet_allows_come_through(results, members, tmp_path):
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
        nnUNetTrainer_onlyMirror01,
        nnUNetTrainerNoMirroring,
    )

    assert members[0][1].mirror_axes == (0, 1, 2)
    assert "inference_allowed_mirroring_axes" not in load(results / "fold_0")[1].ignored
    for trainer, axes in ((nnUNetTrainer_onlyMirror01, (0, 1)), (nnUNetTrainerNoMirroring, ())):
        path = train(tmp_path / trainer.__name__, trainer_class=trainer)
        assert load(path)[0].mirror_axes == axes
    held = torch.load(path, weights_only=False)
    for value in ("absent", (0, 3), [True], "x", (0, 0)):
        changed = {name: part for name, part in held.items() if name != "inference_allowed_mirroring_axes"}
        torch.save(changed if value == "absent" else held | {"inference_allowed_mirroring_axes": value}, path)
        assert load(path)[0].mirror_axes is None, value
