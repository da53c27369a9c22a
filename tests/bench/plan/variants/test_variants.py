"""Names of backends, with batches and repetitions."""

from dataclasses import replace
from io import StringIO

import pytest
import torch

import engines
from bench.choices import ROIS
from bench.cli.terminal import PlainProgress
from bench.errors import InputError
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.plan.variants.variants import read_variants, required_names, roi_absent
from models.model import Model
from models.task import PANCREAS
from reports.records.record import VariantSettings


def variants(text: str) -> dict[str, VariantSettings]:
    return read_variants(text, "torch-fp32", roi="none", overlap=0.5, batch=1)


def names(text: str) -> tuple[str, ...]:
    return tuple(variants(text))


def test_the_baseline_comes_first_and_repetitions_get_a_number():
    assert names("torch-amp, ort-int8") == ("torch-fp32", "torch-amp", "ort-int8")
    assert names("torch-amp,torch-fp32,torch-fp32") == ("torch-fp32", "torch-fp32#2", "torch-amp")
    assert names("all") == tuple(engines.BACKENDS)


def test_any_variant_may_be_the_baseline_and_then_comes_first():
    run = {"roi": "none", "overlap": 0.5, "batch": 1}
    recipe = VariantSettings(backend="openvino-int8", roi="none", overlap=0.25, batch=1, recipe=True)
    assert tuple(read_variants("torch-amp", "openvino-fp32@04", **run)) == ("openvino-fp32@4", "torch-amp")
    assert tuple(read_variants("torch-amp,ort-fp32", "ort-fp32", **run)) == ("ort-fp32", "torch-amp")
    assert tuple(read_variants("ort-fp32", "peer-nnunet", **run, own={"lean": recipe})) == (
        "peer-nnunet", "ort-fp32", "lean",
    )  # fmt: skip
    made = read_variants("", "lean", **run, own={"other": recipe, "lean": recipe})
    assert tuple(made) == ("lean", "other"), "plain PyTorch need not be there"
    for name in ("all", "all@2", "ort-fp64", "lean@2", "torch-fp32#2"):
        with pytest.raises(InputError, match=r"--baseline: unknown variant .*; choose from lean, torch-fp32, "):
            read_variants("torch-amp", name, **run, own={"lean": recipe})
    with pytest.raises(InputError, match=r"--baseline: 'ort-fp32@x': a batch is"):
        read_variants("torch-amp", "ort-fp32@x", **run)


def test_a_batch_makes_a_variant_of_its_own():
    assert names("torch-fp32@4") == ("torch-fp32", "torch-fp32@4")
    assert names("torch-amp@04,torch-amp@4") == ("torch-fp32", "torch-amp@4", "torch-amp@4#2")
    assert names("all,all@8") == (*engines.BACKENDS, *(f"{name}@8" for name in engines.BACKENDS))
    assert required_names("torch-amp@2", names("torch-amp@2")) == ("torch-amp@2",)


def test_a_variant_holds_its_backend_batch_and_repeat():
    made = read_variants("ort-int8@4,ort-int8@4,torch-fp32,torch-fp32", "torch-fp32", roi="body", overlap=0.25, batch=3)
    assert made["ort-int8@4#2"] == VariantSettings(backend="ort-int8", roi="body", overlap=0.25, batch=4, repeat=2)
    assert made["torch-fp32#2"] == VariantSettings(backend="torch-fp32", roi="body", overlap=0.25, batch=3, repeat=2)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("torch-amp@0", "'torch-amp@0': a batch is a number of tiles from 1 to 1024, as in torch-amp@4"),
        ("torch-amp@", "'torch-amp@'"),
        ("all@x", "as in all@4"),
        ("torch-amp@-1", "'torch-amp@-1'"),
        ("torch-amp@9999", "1024"),
        ("openvino-fp64@2", "unknown backend 'openvino-fp64'; choose from all, torch-fp32"),
        (" , ", "no backend named"),
    ],
)
def test_what_is_no_backend_is_refused(text, part):
    with pytest.raises(InputError) as refused:
        variants(text)
    assert str(refused.value).startswith("--backends: ")
    assert part in str(refused.value)


def test_a_batch_reaches_engine_and_pipeline(network, data, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    request = Request(checkpoint=network[0], data=data, backends="torch-amp@3", device="cpu", max_cases=5, batch=2)
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    assert [(each.name, each.target.batch, each.settings.batch) for each in plan.opens] == [
        ("torch-fp32", 2, 2), ("torch-amp@3", 3, 3),
    ]  # fmt: skip
    assert plan.opens[1].backend == engines.BACKENDS["torch-amp"]
    assert replace(plan.opens[1].settings, batch=2) == plan.opens[0].settings
    assert plan.record.controlled_settings["batch"] == "2, but 3 where a backend's name says so"
    assert plan.record.controlled_settings["threads"].endswith(", OMP_WAIT_POLICY=ACTIVE")


def test_a_region_needs_what_it_finds_by():
    """HU in the first channel, or volumes that the foreground can have."""
    model = Model(
        module=torch.nn.Identity(), architecture="", width=1, tile=(8, 8, 8), window=(0, 1), sha256="", task=PANCREAS
    )
    assert all(roi_absent(roi, model) is None for roi in ROIS)
    mri = replace(model, task=replace(PANCREAS, channels=("T1c",), foreground_ml=None))
    assert roi_absent("none", mri) is None
    assert roi_absent("body", mri).reason == "body finds tissue by HU, and the first channel is T1c, no CT"
    assert "the task pancreas has no bounds" in roi_absent("coarse", mri).reason
    assert "set foreground_ml = [LEAST, MOST] in a file for --task" in roi_absent("foreground", mri).fix
