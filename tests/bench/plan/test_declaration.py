"""A plan's file: what it declares, and that a run of anything else is refused in one line that names the difference."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from bench import run as run_module
from bench.cli.main import main
from bench.plan import declaration
from tests.bench.conftest import SIDE

RECIPE = '[lean]\nbackend = "torch-fp32"\noverlap = 0.25\n'


@pytest.fixture
def place(network, data, tmp_path, monkeypatch):
    """A folder with files of its own: network, five cases and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    shutil.copy(network[0], "net.pth")
    Path("mine.toml").write_text(RECIPE)
    for image in sorted(data.rglob("*_0000.nii.gz"))[:5]:
        folder = Path("data/validation") / image.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for file in (image, image.with_name(image.name.replace("_0000.nii.gz", ".nii.gz"))):
            shutil.copy(file, folder)
    return tmp_path


@pytest.fixture
def declared(place, capsys):
    """Declare a run without a pilot, and give the document."""

    def declare(*options: str) -> dict:
        where = ("--checkpoint", "net.pth", "--data", "data", "--tile", f"{SIDE},{SIDE},{SIDE}", "--device", "cpu")
        code = main(["plan", *where, "--threads", "1", "--backends", "torch-fp32,torch-amp", "--no-pilot", *options])
        assert code == 0, capsys.readouterr().err
        capsys.readouterr()
        return json.loads(Path("plan.json").read_text())

    return declare


@pytest.fixture
def refused(capsys):
    """Try to run the plan; give the one line that refuses it."""

    def run(*options: str) -> str:
        code = main(["run", "--plan", "plan.json", "--out", "run", *options])
        printed = capsys.readouterr()
        (line,) = [text for text in printed.err.splitlines() if not text.startswith("checking cases")]
        assert (code, printed.out, Path("run").exists()) == (2, "", False), printed.err
        return line

    return run


def test_everything_is_declared_with_a_hash_of_its_own(declared):
    plan = declared("--recipes", "mine.toml", "--max-dsc-drop", "0.004", "--rounds", "3", "--seed", "7")
    assert plan["claim"]["min_reduction_pct"] == 10
    assert plan["claim"]["max_dsc_drop"] == 0.004
    assert list(plan["variants"]) == ["torch-fp32", "torch-amp", "lean"]
    assert (plan["variants"]["lean"]["overlap"], plan["roles"]["baseline"]) == (0.25, "torch-fp32")
    assert (plan["order"], plan["stopping"]["rounds"]) == ({"seed": 7}, 3)
    assert len(plan["cases"]) == 5
    assert plan["versions"].keys() == {"voxbench", "torch", "numpy", "nibabel"}, "no runtime that is not run"
    assert plan["forecast"] == {"from": "no pilot was run"}
    content = {name: value for name, value in plan.items() if name != "sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert plan["sha256"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_what_is_declared_is_not_overwritten(declared, capsys):
    before = declared()
    assert main(["run", "--plan-only", "--no-pilot", "--backends", "torch-amp"]) == 2
    assert "plan.json: is there already" in capsys.readouterr().err
    assert json.loads(Path("plan.json").read_text()) == before


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("claim", "max_dsc_drop", 0.5, "claim.max_dsc_drop is 0.5, which was not declared"),
        ("variants", "torch-amp", None, "variants.torch-amp is null"),
        ("order", "seed", 5, "order.seed is 5"),
        ("forecast", "from", "a longer pilot", "forecast.from is a longer pilot"),
        ("checksums", "order.seed", "0", "order.seed is 0"),
    ],
)
def test_a_file_that_was_changed_is_refused(declared, refused, part, name, value, said):
    plan = declared()
    plan[part][name] = value
    Path("plan.json").write_text(json.dumps(plan))
    line = refused()
    assert line.startswith("bench: plan.json: was changed after it was declared: ")
    assert said in line
    assert f"declared {plan['sha256'][:12]}" in line


def test_a_margin_beside_the_plan_is_refused_also_if_it_is_the_default(declared, refused):
    declared("--max-dsc-drop", "0.004")
    assert "--max-dsc-drop: the plan plan.json says what is measured" in refused("--max-dsc-drop=0.005")
    assert "--resume: the plan plan.json" in refused("--resume")


def test_a_changed_case_is_named(declared, refused):
    declared()
    images = sorted(Path("data").rglob("*_0000.nii.gz"))
    shutil.copy(images[1], images[0])
    name = images[0].name.removesuffix("_0000.nii.gz")
    assert f"plan.json: not what was declared: cases.{name}.sha256 is " in refused()


def test_a_case_more_is_named(declared, refused):
    declared()
    image = next(Path("data").rglob("*_0000.nii.gz"))
    mask = image.with_name(image.name.replace("_0000", ""))
    shutil.copy(image, image.with_name("quiz_9_999_0000.nii.gz"))
    shutil.copy(mask, image.with_name("quiz_9_999.nii.gz"))
    line = refused()
    assert "cases.quiz_9_999 is {" in line
    assert ", declared absent" in line


def test_a_changed_weight_is_named(declared, refused):
    declared()
    held = torch.load("net.pth", weights_only=False)
    held["model_state_dict"]["seg_out.bias"][0] += 1e-3
    torch.save(held, "net.pth")
    assert "not what was declared: checkpoint.weights_sha256 is " in refused()


def test_a_changed_recipe_is_named(declared, refused):
    declared("--recipes", "mine.toml")
    Path("mine.toml").write_text(RECIPE.replace("0.25", "0.125"))
    assert "not what was declared: variants.lean.overlap is 0.125, declared 0.25" in refused()


def test_a_command_as_the_baseline_is_declared_and_its_changed_script_is_named(declared, refused):
    Path("mine.py").write_text("import sys\n")
    line = f"{sys.executable} -I mine.py {{image}} {{mask}}"
    plan = declared("--command", f"old={line}", "--baseline", "old")
    assert plan["roles"]["baseline"] == "old"
    assert plan["variants"]["old"]["command"]["line"] == line
    assert plan["scripts"]["old"]["mine.py"] == hashlib.sha256(b"import sys\n").hexdigest()
    Path("mine.py").write_text("import os\n")
    assert "not what was declared: scripts.old.mine.py is " in refused()


def test_another_version_of_a_runtime_is_named(declared, refused, monkeypatch):
    declared()
    installed = declaration.versions
    monkeypatch.setattr(declaration, "versions", lambda *names: installed(*names) | {"torch": "1.0"})
    assert f"versions.torch is 1.0, declared {torch.__version__}" in refused()


def test_a_resumed_run_is_held_to_the_plan_that_it_began_with(declared, monkeypatch, capsys):
    plan, installed = declared(), declaration.versions
    monkeypatch.setattr(run_module, "_measure", lambda plan, store, *_: store.directory.folder)
    main(["run", "--plan", "plan.json", "--out", "run"])
    record = json.loads(Path("run/run.json").read_text())
    assert (record["settings"]["plan_sha256"], record["declared"]) == (plan["sha256"], plan["declared"])
    assert main(["run", "--resume", "--out", "run"]) == 3, "nothing has changed, and nothing was measured"
    capsys.readouterr()

    with monkeypatch.context() as other:
        other.setattr(declaration, "versions", lambda *names: installed(*names) | {"torch": "1.0"})
        assert main(["run", "--resume", "--out", "run"]) == 2
    assert "run/plan.json: not what was declared: versions.torch is 1.0" in capsys.readouterr().err

    Path("plan.json").unlink()
    declared("--seed", "1")
    shutil.copy("plan.json", "run/plan.json")
    assert main(["run", "--resume", "--out", "run"]) == 2
    assert "run/plan.json: not the plan that this run began with" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON", '{"schema": 1}', "[" * 100_000])
def test_what_is_no_plan_is_refused(place, refused, content):
    Path("plan.json").write_text(content)
    assert "give a file that `bench plan` wrote" in refused()


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured_nothing(monkeypatch):
    monkeypatch.setattr(run_module, "_measure", lambda plan, store, *_: store.directory.folder)


def test_a_shard_of_a_plan_has_its_hash_and_is_resumed(declared, measured_nothing, monkeypatch, capsys):
    plan, installed = declared("--rounds", "2"), declaration.versions
    main(["run", "--plan", "plan.json", "--shard", "2/3", "--out", "run"])
    record = json.loads(Path("run/run.json").read_text())
    assert (record["settings"]["shard"], record["settings"]["plan_sha256"]) == ("2/3", plan["sha256"])
    names = sorted(plan["cases"])
    assert [case["name"] for case in record["cases"]] == names[1::3]
    assert (record["listed_cases"], record["data"]["sha256"]) == (names, plan["data"]["sha256"])
    assert main(["run", "--resume", "--out", "run"]) == 3, "nothing has changed, and nothing was measured"
    capsys.readouterr()
    monkeypatch.setattr(declaration, "versions", lambda *names: installed(*names) | {"torch": "1.0"})
    assert main(["run", "--resume", "--out", "run"]) == 2
    assert "run/plan.json: not what was declared: versions.torch is 1.0" in capsys.readouterr().err


def test_a_plan_is_of_the_whole_run(place, capsys):
    assert main(["plan", "--shard", "1/2", "--rounds", "2"]) == 2
    assert "--shard 1/2: a plan declares the whole run, of which `bench run --plan" in capsys.readouterr().err
    assert main(["run", "--plan-only", "--shard", "1/2", "--rounds", "2"]) == 2
    assert not Path("plan.json").exists()


def test_a_plan_without_fixed_rounds_has_no_shards(declared, refused):
    declared()
    assert "--shard 1/2: a shard that ends by what it alone has seen" in refused("--shard", "1/2")
