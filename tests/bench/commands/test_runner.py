"""Own commands in their worker: timed, counted, and never outlived by anything that they start."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.commands.command import Command, read_command
from bench.commands.runner import CommandCase
from bench.worker.messages import Broke, CommandRan, OpenCommand, Opened, RunCommand
from bench.worker.process import WorkerProcess
from engines.base import Target

PREDICTOR = Path(__file__).with_name("predictor.py")
REST = {"case": "{mask} {image}", "server": "", "folder": "{images_dir} {masks_dir}"}
MODES = tuple(REST)
SLEEP_S = 0.2
CLASSES = ("benign", "border line", "Malignant")


def command(mode: str, fault: str, classes: str = "", line: str = "") -> OpenCommand:
    line = line or f"{sys.executable} {PREDICTOR} {fault} {SLEEP_S} {mode} {REST[mode]}"
    made = Command(
        record=read_command("", line, mode, classes), environment=dict(os.environ), timeout_s=1.5, class_names=CLASSES
    )
    return OpenCommand(fault, made, Target("cpu", (0, 0, 0), 1, 1, Path()))


@pytest.fixture(scope="module", params=MODES)
def worker(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    with WorkerProcess(1, log) as process:
        yield request.param, process, log
    assert not psutil.pid_exists(process.pid)


@pytest.fixture
def request_of(data, tmp_path):
    """A request to predict two cases, the second of which meets the fault."""

    def make(mode: str) -> RunCommand:
        images = sorted(data.rglob("*_0000.nii.gz"))[:2]
        names = [image.name.removesuffix("_0000.nii.gz") for image in images]
        cases = [
            CommandCase(name, (image,), tmp_path / f"{name}.nii.gz") for name, image in zip(names, images, strict=True)
        ]
        return RunCommand(tuple(cases if mode == "folder" else cases[1:]), tmp_path / "call")

    return make


def children(process: WorkerProcess) -> list[psutil.Process]:
    return [each for each in psutil.Process(process.pid).children(recursive=True) if each.status() != "zombie"]


REASONS = {
    "crash": "it ended with exit status 3",
    "hang": "not done within 1.5 s; it was killed with all that it had started (--timeout gives it longer)",
    "nothing": "it wrote no mask, which should be ",
    "error": "it answers with an error: no memory",
}


@pytest.mark.parametrize("fault", ["none", "fork", *REASONS])
def test_what_a_command_does_is_told_in_one_line_and_nothing_outlives_it(worker, request_of, fault):
    mode, process, _ = worker
    if fault == "error" and mode != "server":
        pytest.skip("only servers answer")
    request = request_of(mode)
    assert isinstance(process.ask(command(mode, fault), 60), Opened)
    begin = time.perf_counter_ns()
    reply = process.ask(request, 60)
    waited_ns = time.perf_counter_ns() - begin
    if fault in REASONS:
        assert isinstance(reply, Broke)
        assert REASONS[fault].replace("1.5 s", "3 s" if mode == "folder" else "1.5 s") in reply.reason
        assert "\n" not in reply.reason
    else:
        assert isinstance(reply, CommandRan), reply
        assert SLEEP_S * 1e9 * len(request.cases) <= reply.case_ns <= waited_ns
        assert reply.cpu_ns > 0 or mode == "server", "the processor time of what has ended"
        assert all(case.mask.read_bytes() for case in request.cases)
        assert set(reply.classes.values()) == {1 if mode == "server" else None}
    if mode == "server":
        process.ask(command(mode, "none"), 60)  # the one before lives on until the worker ends
    else:
        assert not children(process)


def has_ended(process: psutil.Process) -> bool:
    """Also where the system's first process, whose it is now, has not taken note of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_whatever_a_server_has_started_ends_with_its_worker(request_of, tmp_path):
    with WorkerProcess(1, tmp_path / "log") as process:
        process.ask(command("server", "fork"), 60)
        assert isinstance(process.ask(request_of("server"), 60), CommandRan)
        below = children(process)
        assert len(below) == 2, "the server, and what it has started"
    _, left = psutil.wait_procs(below, timeout=3)
    assert all(has_ended(each) for each in left)
    assert (tmp_path / "log").read_text() == "loading\n"


def test_an_answer_that_nobody_asked_for_is_no_answer_to_the_next_case(request_of, tmp_path):
    with WorkerProcess(1, tmp_path / "log") as process:
        process.ask(command("server", "twice"), 60)
        assert isinstance(process.ask(request_of("server"), 60), CommandRan)
        time.sleep(0.1)
        reply = process.ask(request_of("server"), 60)
    assert isinstance(reply, Broke)
    assert "it has answered more often than it was asked" in reply.reason


def test_a_command_that_cannot_be_started_is_told(tmp_path):
    with WorkerProcess(1) as process:
        reply = process.ask(command("server", "", line=str(tmp_path / "nothing")), 60)
    assert reply == Broke(f"it cannot be started: {tmp_path}/nothing: No such file or directory")


def test_classes_are_those_that_this_call_wrote(request_of, tmp_path):
    table = tmp_path / "classes.csv"
    script = tmp_path / "p.py"
    script.write_text(
        "import sys, pathlib\n"
        "pathlib.Path(sys.argv[1]).write_text('mask')\n"
        "table = pathlib.Path(sys.argv[2])\n"
        "if not table.exists(): table.write_text(sys.argv[3])\n"
    )
    request = request_of("case")
    name = request.cases[0].name
    written = {f"{name}.nii.gz,2": {name: 2}, f"{name},malignant": {name: 2}, "other,2": None}
    for text, expected in ((f"Names,Subtype\n{row}\n", expected) for row, expected in written.items()):
        table.unlink(missing_ok=True)
        with WorkerProcess(1) as process:
            line = f"{sys.executable} {script} {{mask}} {table} '{text}' {{image}}"
            process.ask(command("case", "", str(table), line), 60)
            reply = process.ask(request, 60)
            again = process.ask(request, 60)
        if expected is None:
            assert reply == Broke(f"{name}: {table}: holds no class of {name}")
        else:
            assert reply.classes == expected
            assert again.reason.endswith("it did not write its table of classes, which is that of an earlier call")


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ("'border-line'", 1),
        ("'2'", 2),
        ("None", None),
        ("-1", "class '-1' of CASE is no whole number from 0; correct it"),
        ("[1]", "class '[1]' of CASE is no whole number from 0, nor one of the task's classes: "),
        ("True", "class 'True' of CASE is no whole number from 0, nor one of the task's classes: "),
        ("'cystic'", "class 'cystic' of CASE is no whole number from 0, nor one of the task's classes: benign, "),
    ],
)
def test_a_server_answers_with_the_number_or_the_name_of_a_class(answered, expected, request_of, tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "for line in sys.stdin:\n"
        "    pathlib.Path(json.loads(line)['mask']).write_text('mask')\n"
        f"    print(json.dumps({{'class': {answered}}}), flush=True)\n"
    )
    request = request_of("server")
    name = request.cases[0].name
    with WorkerProcess(1, tmp_path / "log") as process:
        process.ask(command("server", "", line=f"{sys.executable} {script}"), 60)
        reply = process.ask(request, 60)
    if isinstance(expected, str):
        assert reply.reason.startswith(f"{name}: its answer: {expected.replace('CASE', name)}")
    else:
        assert reply.classes == {name: expected}


def test_an_answer_that_is_nested_too_deeply_is_said_to_be_so(request_of, tmp_path):
    script = tmp_path / "serve.py"
    script.write_text("for _ in iter(input, None): print('{\"mask\": ' + '[' * 100_000, flush=True)\n")
    request = request_of("server")
    line = f"{sys.executable} {script}"
    with WorkerProcess(1, tmp_path / "log") as process:
        process.ask(command("server", "", line=line), 60)
        broke = process.ask(request, 60)
    assert isinstance(broke, Broke)
    assert broke.reason.endswith("its answer is JSON nested too deeply to be read; answer with a flat object")


def test_the_server_of_the_documents_answers(request_of, tmp_path):
    page = (Path(__file__).parents[3] / "docs/how-to/own-command.md").read_text()
    script = tmp_path / "serve.py"
    script.write_text(page.partition("```python\n")[2].partition("```")[0])
    request = request_of("server")
    with WorkerProcess(1, tmp_path / "log") as process:
        made = Command(
            record=read_command("", f"{sys.executable} {script}", "server"), environment=dict(os.environ), timeout_s=60
        )
        process.ask(OpenCommand("", made, Target("cpu", (0, 0, 0), 1, 1, Path())), 60)
        assert isinstance(process.ask(request, 60), CommandRan)
    assert request.cases[0].mask.exists()
