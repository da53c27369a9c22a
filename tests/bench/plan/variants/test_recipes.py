"""Recipes: read, refused, and carried to engine and pipeline."""

import shutil
from io import StringIO
from pathlib import Path

import pytest

import engines
from bench.cli.main import main
from bench.cli.terminal import PlainProgress
from bench.errors import InputError
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.plan.variants.recipes import BUILT_IN, read_recipes
from engines.rewrites import REWRITES
from reports.records.record import VariantSettings
from tests.bench.plan.test_calibration import write


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_what_a_recipe_leaves_out_is_the_runs(tmp_path):
    path = written(
        tmp_path, '[b]\nbackend = "torch-amp"\nroi = "body"\n[a]\nbackend = "ort-int8"\noverlap = 0\nbatch = 3\n'
    )
    recipes = read_recipes(path, "none", 0.625, 2)
    assert list(recipes) == ["b", "a"], "in the order of the file"
    assert recipes == {
        "b": VariantSettings(backend="torch-amp", roi="body", overlap=0.625, batch=2, recipe=True),
        "a": VariantSettings(backend="ort-int8", roi="none", overlap=0.0, batch=3, recipe=True),
    }


def test_the_built_in_recipes_can_be_read():
    recipes = read_recipes(BUILT_IN, "none", 0.5, 1)
    assert recipes
    devices = {device for recipe in recipes.values() for device in engines.BACKENDS[recipe.backend].devices}
    assert devices == {"cpu", "cuda"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "holds no recipe"),
        ("[a", "not a TOML document"),
        ("a = 1", "[a]: is a single value"),
        ("[a]\nroi = 'none'", "[a]: names no backend; add backend = with one of torch-fp32"),
        ("[a]\nbackend = 'fast'", "[a]: backend = 'fast': unknown; choose from torch-fp32"),
        ("[a]\nbackend = ['torch-amp']", "backend = ['torch-amp']: unknown"),
        ("[a]\nbackend = 'torch-amp'\nroi = 'liver'", "roi = 'liver': unknown; choose from none, body"),
        ("[a]\nbackend = 'torch-amp'\noverlap = 1", "overlap = 1: give a share of the tile's side from 0 to 0.95"),
        ("[a]\nbackend = 'torch-amp'\noverlap = true", "overlap = True"),
        ("[a]\nbackend = 'torch-amp'\noverlap = nan", "overlap = nan"),
        ("[a]\nbackend = 'torch-amp'\nbatch = 0", "batch = 0: give a number of tiles from 1 to 1024"),
        ("[a]\nbackend = 'torch-amp'\nbatch = 1.0", "batch = 1.0"),
        (
            "[a]\nbackend = 'torch-amp'\nwindow = 3",
            "[a]: unknown key 'window'; known are backend, roi, overlap, batch, tta, rewrites, tile, margin_mm",
        ),
        (
            "[a]\nbackend = 'torch-amp'\ntile = 64",
            "tile = 64: give three sides from 1 to 1024 voxels, as in [64, 64, 64]",
        ),
        ("[a]\nbackend = 'torch-amp'\ntile = [64, 64]", "tile = [64, 64]: give three sides"),
        ("[a]\nbackend = 'torch-amp'\ntile = [64, 64, true]", "tile = [64, 64, True]: give three sides"),
        ("[a]\nbackend = 'torch-amp'\nmargin_mm = -1", "margin_mm = -1: give a number from 0 to 200"),
        ("[a]\nbackend = 'torch-amp'\nint8_dice = 1.5", "int8_dice = 1.5: give a number from 0 to 1"),
        ("[a]\nbackend = 'torch-amp'\nstreams = 0", "streams = 0: give a number from 1 to 1024"),
        ("[a]\nbackend = 'torch-amp'\nthreads = 1.0", "threads = 1.0: give a number from 1 to 1024"),
        (
            "[a]\nbackend = 'torch-amp'\nrewrites = 'drop-biases'",
            "rewrites = 'drop-biases': give a list of drop-biases",
        ),
        ("[a]\nbackend = 'torch-amp'\nrewrites = ['faster']", "rewrites = ['faster']"),
        (
            "[a]\nbackend = 'torch-amp'\ntta = 'mirror:x,x'",
            "tta = 'mirror:x,x': give none, mirror, or mirror with axes",
        ),
        ("[torch-amp]\nbackend = 'torch-amp'", "cannot be a recipe's name"),
        ("['../a']\nbackend = 'torch-amp'", "cannot be a recipe's name"),
        ("['a@2']\nbackend = 'torch-amp'", "cannot be a recipe's name"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path, text, part):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as refused:
        read_recipes(path, "none", 0.5, 1)
    said = str(refused.value)
    assert said.startswith(f"--recipes: {path}: ")
    assert part in said
    assert "\n" not in said


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["run", "--recipes", str(tmp_path / "none.toml"), "--out", str(tmp_path / "run")]) == 2
    assert "none.toml: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_recipe_reaches_engine_and_pipeline(tmp_path, network, data):
    path = written(
        tmp_path, '[lean]\nbackend = "torch-amp"\nroi = "body"\noverlap = 0.25\nbatch = 3\nrewrites = ["drop-biases"]\n'
    )
    request = Request(checkpoint=network[0], data=data, recipes=str(path), device="cpu", required="lean", overlap=0.625)
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    baseline, lean = plan.opens
    assert (baseline.name, lean.name) == ("torch-fp32", "lean")
    assert (baseline.settings.roi, baseline.settings.overlap, baseline.settings.batch) == ("none", 0.625, 1)
    assert (lean.settings.roi, lean.settings.overlap, lean.settings.batch, lean.target.batch) == ("body", 0.25, 3, 3)
    assert lean.backend == engines.BACKENDS["torch-amp"]
    assert (
        plan.record.controlled_settings["but recipe lean"]
        == "torch-amp, ROI body, overlap 0.25, batch 3, rewritten: drop-biases"
    )
    assert (baseline.rewrites, lean.rewrites) == ((), ("drop-biases",))
    assert plan.record.controlled_settings["ROI"] == "none"


def test_what_recipes_alone_say_reaches_engine_and_pipeline(tmp_path, network, data):
    with_training = tmp_path / "data"
    shutil.copytree(data, with_training)
    write(with_training, "train", 0)
    path = written(
        tmp_path,
        """
        [every-one]
        backend = "openvino-int8"
        roi = "foreground"
        tile = [16, 24, 32]
        margin_mm = 4
        streams = 2
        threads = 3
        int8_dice = 0.9
        [as-the-run]
        backend = "openvino-int8"
        """,
    )
    request = Request(
        checkpoint=network[0], data=with_training, recipes=str(path), device="cpu", threads=1, backends="torch-amp"
    )
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    opens = {each.name: each for each in plan.opens}
    own, usual = opens["every-one"], opens["as-the-run"]
    assert (own.target.tile, own.settings.tile, own.settings.margin_mm) == ((16, 24, 32), (16, 24, 32), 4.0)
    assert (own.target.streams, own.target.threads, own.target.int8_dice) == (2, 3, 0.9)
    assert own.target.calibration.tiles().shape[1:] == (1, 16, 24, 32)
    assert usual.target.tile == usual.settings.tile == opens["torch-amp"].target.tile == (64, 64, 64)
    assert (usual.target.streams, usual.target.threads, usual.target.int8_dice) == (None, 1, None)
    assert usual.target.calibration.sha256 != own.target.calibration.sha256
    assert plan.record.controlled_settings["but recipe every-one"] == (
        "openvino-int8, ROI foreground with 4 mm, overlap 0.5, batch 1, tile 16 x 24 x 32, 2 streams, 3 threads, "
        "INT8 to a Dice of 0.9"
    )


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("streams = 2", "streams are OpenVINO's"),
        ("int8_dice = 0.9", "int8_dice says which layers OpenVINO has in INT8"),
        ("margin_mm = 5", "a margin is around what a ROI finds, and there is none"),
    ],
)
def test_a_setting_that_means_nothing_there_is_a_row_with_its_reason(tmp_path, network, data, setting, reason):
    path = written(tmp_path, f'[odd]\nbackend = "torch-amp"\n{setting}\n')
    request = Request(checkpoint=network[0], data=data, recipes=str(path), device="cpu")
    _, odd = make_plan(request, "", "", PlainProgress(StringIO())).opens
    assert odd.incompatible.reason == reason


def test_a_run_with_tiles_of_its_own(bench, tmp_path):
    path = written(
        tmp_path,
        """
        [long]
        backend = "torch-fp32"
        tile = [32, 32, 64]
        [openvino]
        backend = "openvino-fp32"
        tile = [32, 32, 64]
        batch = 2
        streams = 1
        [odd]
        backend = "torch-fp32"
        tile = [15, 16, 16]
        """,
    )
    _, summary, printed = bench("--recipes", str(path), "--rounds", "1")
    rows = {row["name"]: row for row in summary["variants"]}
    assert rows["long"]["accuracy"]["voxel_disagreement"] > 0, "norms over more voxels"
    assert rows["openvino"]["evidence"]["details"]["streams"] == 1
    assert rows["odd"]["status"] == "failed"
    assert "the network does not take tiles of 15 x 16 x 16" in printed
    assert "choose another tile in the recipe" in rows["odd"]["reason"]


def test_a_recipe_may_differ_in_test_time_augmentation(tmp_path, network, data):
    path = written(tmp_path, '[plain]\nbackend = "torch-amp"\ntta = "none"\n[as-the-run]\nbackend = "torch-amp"\n')
    request = Request(
        checkpoint=network[0], data=data, recipes=str(path), device="cpu", backends="torch-amp", tta="mirror"
    )
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    assert {each.name: each.settings.mirror_axes for each in plan.opens} == {
        "torch-fp32": (0, 1, 2), "torch-amp": (0, 1, 2), "plain": (), "as-the-run": (0, 1, 2)
    }  # fmt: skip
    controlled = plan.record.controlled_settings
    assert controlled["test-time augmentation"].startswith("tiles mirrored along x, y, z in every combination")
    assert controlled["but recipe plain"].endswith("batch 1, without test-time augmentation")
    assert controlled["but recipe as-the-run"].endswith("batch 1, test-time augmentation mirror:x,y,z")
    assert plan.record.settings.tta == plan.record.settings.variants["torch-amp"].tta == "mirror:x,y,z"


def test_recipes_join_the_backends_that_are_named(tmp_path, network, data):
    path = written(tmp_path, '[lean]\nbackend = "torch-amp"\n')
    request = Request(checkpoint=network[0], data=data, recipes=str(path), device="cpu", backends="torch-amp@2")
    plan = make_plan(request, "", "", PlainProgress(StringIO()))
    assert tuple(plan.record.settings.variants) == ("torch-fp32", "torch-amp@2", "lean")


def test_the_centre_patch_takes_no_roi(tmp_path, network, data):
    path = written(tmp_path, '[lean]\nbackend = "torch-amp"\nroi = "body"\n')
    request = Request(checkpoint=network[0], data=data, recipes=str(path), device="cpu", protocol="center-patch")
    with pytest.raises(InputError, match="--recipes: the centre patch is a crop already"):
        make_plan(request, "", "", PlainProgress(StringIO()))


def test_a_run_with_a_recipe(bench, tmp_path):
    path = written(
        tmp_path, '[every-tile]\nbackend = "torch-fp32"\noverlap = 0.25\n' + f"rewrites = {list(REWRITES)}\n"
    )
    _, summary, _ = bench("--recipes", str(path), "--rounds", "1")
    lean = next(each for each in summary["variants"] if each["name"] == "every-tile")
    made_of = {"backend": "torch-fp32", "roi": "none", "overlap": 0.25, "batch": 1, "rewrites": list(REWRITES)}
    assert lean.items() >= (made_of | {"recipe": True}).items()
    assert lean["accuracy"]["voxel_disagreement"] < 1e-3, "one tile a case, and exact rewrites"
    assert summary["pareto_front"]
    report = Path("run/report.md").read_text()
    assert "## Time against accuracy" in report
    assert "every-tile" in report.partition("## Time against accuracy")[2].partition("\n## ")[0]
