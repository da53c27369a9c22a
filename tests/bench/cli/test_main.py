"""The command line: instant help, and one line with exit code 2 for whatever cannot be used."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench import demo
from bench.choices import ABSENT
from bench.cli.commands import merge
from bench.cli.exit_codes import INTERRUPTED
from bench.cli.main import main
from bench.package.export import unfinished
from bench.plan.request import Request
from engines.onnx import runtime
from models.networks.unet import MultiTaskUNet
from reports.records.record import ABSENT_ONE, ABSENT_SKIP

NOT_BEGUN = "--plan-only declares a run and does not begin it; leave one of both out"
FIXED = "and --rounds 2 takes as many of every variant; leave one of both out"


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data" / "validation" / "subtype0"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.int16), np.eye(4)), folder / "quiz_0_001_0000.nii.gz")
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[4:12], mask[6:9] = 1, 2
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / "quiz_0_001.nii.gz")
    return tmp_path / "data"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "model.pth"
    torch.save({"model_state_dict": MultiTaskUNet(2).state_dict()}, path)
    return path


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Call bench, expect exit code 2, one line and nothing written, and give the line."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object) -> str:
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stopped:  # argparse's way out
            code = stopped.code
        printed = capsys.readouterr()
        line = [text for text in printed.err.splitlines() if not text.startswith("checking cases")]
        assert code == 2
        assert len(line) == 1, printed.err
        assert printed.out == ""
        assert list(home.iterdir()) == []
        assert not (tmp_path / "cache").exists()
        return line[0]

    return call


def test_help_is_light():
    code = "import sys; from bench.cli.main import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'numpy', 'pandas', 'rich', 'openvino', 'onnxruntime', 'nibabel'} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--min-reduction" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--rounds", "0"], "--rounds: '0' is not a whole number of at least 1"),
        (["run", "--overlap", "1.5"], "--overlap: '1.5' is not a number from 0 to 0.95"),
        (["run", "--device", "tpu"], "--device: 'tpu' is not auto, cpu, cuda or cuda:N"),
        (["run", "--colour"], "bench run: unrecognized arguments: --colour; see bench run --help"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run", "--budget", "inf"], "--budget: 'inf' is not a number at least 0"),
        (["check", "--min-reduction", "nan"], "--min-reduction: 'nan' is not a number from 0 to 99"),
    ],
)
def test_bad_usage(refusal, arguments, said):
    assert said in refusal(*arguments)


@pytest.mark.parametrize("given", ["--split test", "--max-cases 3", "--budget 0", "--out report.md"])
def test_what_says_how_verify_times_cases_needs_cases(refusal, tmp_path, given):
    option = given.partition(" ")[0]
    said = f"bench: {option}: says how cases are timed; name them with --data DIR, or leave it out"
    assert refusal("verify", tmp_path / "package", *given.split()) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("run --plan-only --resume", f"--resume: {NOT_BEGUN}"),
        ("run --plan-only --ray auto", f"--ray: {NOT_BEGUN}"),
        ("run --no-pilot", "--no-pilot: only a plan has a pilot, and this is a run; leave it out, or add --plan-only"),
        ("run --pilot", "--pilot: only a plan has a pilot, and this is a run; leave it out, or add --plan-only"),
        ("run --resume --no-pilot", "--no-pilot: --resume goes on with a run as it began, and only --out may stand "
         "beside it; leave it out"),
        ("run --rounds 2 --budget 600", f"--budget: says when --rounds auto ends, {FIXED}"),
        ("run --rounds 2 --race on", f"--race on: ends the rounds of variants with --rounds auto, {FIXED}"),
        ("plan --rounds 2 --budget 60", f"--budget: says when --rounds auto ends, {FIXED}"),
        ("report --format csv --no-images", "--no-images: is of the page; add --format html, or leave it out"),
        ("report --max-size 1MiB", "--max-size: is of the page; add --format html, or leave it out"),
        ("scenario --scenario cold --read-ahead 7", "--read-ahead: cases are read ahead in offline; leave it out, or "
         "add --scenario offline"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(refusal, given, said):
    assert refusal(*given.split()) == f"bench: {said}"


def test_margins_are_options_of_the_run_and_of_the_check():
    from bench.cli.options import parser

    run, check = (parser().parse_args([command, "--max-nsd-drop", "0.03"]) for command in ("run", "check"))
    assert (run.max_nsd_drop, check.max_nsd_drop) == (0.03, 0.03)
    assert parser().parse_args(["run"]).max_nsd_drop == Request().max_nsd_drop == 0.01
    assert parser().parse_args(["check"]).max_nsd_drop is None, "then the run's"


def test_what_is_absent_counts_nothing_unless_the_user_says_so():
    from bench.cli.options import parser

    assert [parser().parse_args(["run", *more]).absent for more in ((), ("--absent", "one"))] == ["skip", "one"]
    assert Request().absent == ABSENT[0] == ABSENT_SKIP
    assert ABSENT[1] == ABSENT_ONE


def test_unknown_backend_lists_the_known(refusal):
    line = refusal("run", "--backends", "openvino-fp64")
    assert "unknown backend 'openvino-fp64'" in line
    assert "openvino-bf16" in line


def test_required_backend_that_is_not_run(refusal):
    assert "--require: 'ort-fp32' is not among" in refusal("run", "--backends", "torch-amp", "--require", "ort-fp32")


def test_missing_checkpoint(refusal, data, tmp_path):
    line = refusal("run", "--checkpoint", tmp_path / "none.pth", "--data", data)
    assert str(tmp_path / "none.pth") in line


def test_not_a_checkpoint(refusal, data, tmp_path):
    (tmp_path / "notes.pth").write_text("dear diary")
    assert "notes.pth" in refusal("run", "--checkpoint", tmp_path / "notes.pth", "--data", data)


def test_checkpoint_holding_code_is_not_run(refusal, data, tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "marker",)

    torch.save({"model_state_dict": MultiTaskUNet(2).state_dict(), "x": Hostile()}, tmp_path / "bad.pth")
    assert "bad.pth" in refusal("run", "--checkpoint", tmp_path / "bad.pth", "--data", data)
    assert "bad.pth" in refusal("inspect", tmp_path / "bad.pth")
    assert not (tmp_path / "marker").exists()
    pickle.loads(pickle.dumps(Hostile()))
    assert (tmp_path / "marker").exists(), "the file would have created it"


def test_wrong_architecture_names_the_tensors(refusal, data, tmp_path):
    state = MultiTaskUNet(2).state_dict()
    state["extra.weight"] = state.pop("seg_out.weight")
    torch.save(state, tmp_path / "other.pth")
    line = refusal("run", "--checkpoint", tmp_path / "other.pth", "--data", data)
    assert "seg_out.weight" in line
    assert "extra.weight" in line


def test_bad_data_writes_nothing(refusal, data, checkpoint):
    image = next(data.rglob("*_0000.nii.gz"))
    image.write_bytes(image.read_bytes()[:60])
    assert str(image) in refusal("run", "--checkpoint", checkpoint, "--data", data, "--backends", "torch-amp")


def test_a_command_that_is_printed_can_be_typed(refusal, tmp_path):
    """Also with a folder whose name has two spaces."""
    module = torch.jit.trace(torch.nn.Conv3d(1, 2, 1), torch.zeros(1, 1, 4, 4, 4))
    path = tmp_path / "my  models" / "a  b.pt"
    path.parent.mkdir()
    torch.jit.save(module, path)
    said = refusal("run", "--checkpoint", path)
    assert said.startswith(f"bench: {path.parent}/a  b.pt: ")
    assert f"--trust '{path.parent}/a  b.pt'" in said


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028"])
def test_spaces_of_a_path_are_kept_and_its_ends_of_lines_are_not(refusal, tmp_path, end):
    assert refusal("report", tmp_path / f"my  run{end}there").startswith(f"bench: {tmp_path}/my  run there: ")


def test_no_cases(refusal, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refusal("run", "--checkpoint", checkpoint, "--data", tmp_path / "empty")
    assert "no cases of the split 'validation'" in line


def test_case_in_both_splits(refusal, data, checkpoint):
    twin = data / "train" / "subtype0"
    twin.mkdir(parents=True)
    for path in (data / "validation" / "subtype0").iterdir():
        (twin / path.name.replace("001", "002")).write_bytes(path.read_bytes())
    line = refusal("run", "--checkpoint", checkpoint, "--data", data, "--backends", "openvino-int8")
    assert "calibration must not see evaluated cases" in line


def test_both_onnxruntimes_installed(refusal, data, checkpoint, monkeypatch):
    monkeypatch.setattr(runtime, "distributions", lambda: ["onnxruntime", "onnxruntime-gpu"])
    line = refusal("run", "--checkpoint", checkpoint, "--data", data, "--backends", "ort-fp32")
    assert "onnxruntime-gpu" in line
    assert "pip uninstall" in line


def test_device_that_is_not_there(refusal, data, checkpoint):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    line = refusal("run", "--checkpoint", checkpoint, "--data", data, "--device", "cuda")
    assert line.startswith(f"bench: --device cuda: PyTorch {torch.__version__} ")
    assert "; install" in line, "what to do"


def test_out_that_is_not_empty(checkpoint, data, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    code = main(["run", "--checkpoint", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "full"),
                 "--backends", "torch-amp"])  # fmt: skip
    assert code == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_report_without_a_run(refusal):
    assert "runs/latest" in refusal("report")


def test_report_of_a_damaged_run(refusal, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"schema": 2, "id"')
    assert "run.json" in refusal("report", tmp_path / "run")


def test_a_stop_by_a_scheduler_is_an_interrupt_of_every_command(tmp_path, monkeypatch, capsys):
    def stopped(_folders, out, *_):
        with unfinished(out):
            signal.raise_signal(signal.SIGTERM)  # to this thread: to the process, another one may take it, and late

    monkeypatch.setattr(merge, "merge", stopped)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert main(["merge", "1", "2", "--out", str(tmp_path / "all")]) == INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "bench: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_inspect_the_demo(capsys):
    assert main(["inspect", str(demo.CHECKPOINT)]) == 0
    assert "1,609,934" in capsys.readouterr().out


def test_doctor_names_every_backend_and_survives(capsys):
    import engines

    assert main(["doctor", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for name in engines.BACKENDS:
        assert name in printed
    assert "torch-fp32           ok" in printed
    assert "->" in printed, "what is missing comes with the command that enables it"
