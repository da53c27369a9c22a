"""Every file of the corpus, through the command line: no code runs, and nothing crashes, hangs or fills the memory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import corpus

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "reference" / "refusals.md"
pytestmark = pytest.mark.xdist_group("corpus")  # all of them are read once, in one place
MEMORY_KB = 2**20  # 1 GiB
HANGS_S = 10

# One interpreter reads a good file, and then forks for every file of the list; it prints what became of each.
READER = """
import json, os, signal, sys, time
import torch
torch.set_num_threads(1)  # a pool of threads does not survive a fork
from bench.cli.main import main
sys.path.insert(0, os.getcwd())

def read(file):
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.dup2(os.open("said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 1)
        os.dup2(1, 2)
        code = 99
        try:
            code = main(["inspect", file])
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - started > float(sys.argv[2]):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    said = open("said", errors="replace").read()
    ran = os.path.exists("MARKER")
    if ran:
        os.remove("MARKER")
    return {"code": os.waitstatus_to_exitcode(status), "said": said, "peak_kb": used.ru_maxrss, "ran": ran}

files = json.load(open(sys.argv[1]))
main(["inspect", files["good"]])
print()
print(json.dumps({name: read(file) for name, file in files.items()}))
"""


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each file: exit code, all that was printed, peak memory in kB, whether code ran."""
    folder = tmp_path_factory.mktemp("corpus")
    files = {"good": folder / "good.pth"}
    files["good"].write_bytes(corpus.plain_checkpoint())
    files["large"] = folder / "large.pth"
    files["large"].write_bytes(corpus.saved({"weight": torch.zeros(2**24)}))  # 64 MiB
    for number, (name, case) in enumerate(corpus.CASES.items()):
        files[name] = folder / f"{number}{case.suffix}"
        files[name].write_bytes(case.make())
    (folder / "evil.py").write_text(corpus.EVIL)
    (folder / "evil_import.py").write_text(corpus.EVIL_IMPORT)
    (folder / "files.json").write_text(json.dumps({name: str(file) for name, file in files.items()}))
    command = [sys.executable, "-c", corpus.REGISTER + READER, "files.json", str(HANGS_S)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    read: dict[str, dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    return {name: reading | {"file": str(files[name])} for name, reading in read.items()}


def test_good_files_are_read_and_their_memory_is_noticed(readings: dict[str, dict[str, Any]]) -> None:
    assert (readings["good"]["code"], readings["large"]["code"]) == (0, 0)
    assert readings["large"]["peak_kb"] - readings["good"]["peak_kb"] > 48 * 1024


@pytest.mark.parametrize("name", corpus.CASES)
def test_file(readings: dict[str, dict[str, Any]], name: str) -> None:
    reading, case = readings[name], corpus.CASES[name]
    said = reading["said"]
    assert not reading["ran"], "code of the file ran"
    assert reading["peak_kb"] - readings["good"]["peak_kb"] < MEMORY_KB
    assert "Traceback" not in said
    assert reading["code"] in (0, 2), said  # a signal is negative
    assert len(said) < 20_000
    assert all(character.isprintable() or character == "\n" for character in said)
    assert all(words in said for words in case.said), said
    if reading["code"]:
        assert corpus.READ not in case.said
        assert said.startswith(f"bench: {reading['file']}: ")
        assert (said.count("\n"), said.count("; ") >= 1) == (1, True)
    else:
        assert not case.said or case.said == (corpus.READ,), said


def test_the_docs_show_what_is_printed(readings: dict[str, dict[str, Any]]) -> None:
    """Each text in the first table of refusals, numbers aside."""

    def alike(said: str) -> str:
        return re.sub(r"\d+", "N", said)

    table = DOCS.read_text().partition("## Damaged and hostile files")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| [^|]+ \| `(.+)` \|$", table, re.MULTILINE)
    printed = "\n".join(alike(reading["said"].replace(reading["file"], "FILE")) for reading in readings.values())
    assert len(shown) > 50
    assert [said for said in shown if alike(f"bench: FILE: {said}") not in printed] == []


def test_there_are_enough_of_them() -> None:
    assert len(corpus.CASES) > 150


@pytest.mark.parametrize("name", corpus.CODE)
def test_the_code_in_them_is_live(tmp_path: Path, name: str) -> None:
    """Proves that the test above can fail: a pickle that is loaded as usual leaves the marker."""
    (tmp_path / "evil.py").write_text(corpus.EVIL)
    (tmp_path / "evil_import.py").write_text(corpus.EVIL_IMPORT)
    (tmp_path / "code.pkl").write_bytes(corpus.CODE[name][0])
    load = corpus.REGISTER + "import pickle\npickle.load(open('code.pkl', 'rb'))"
    subprocess.run([sys.executable, "-c", load], cwd=tmp_path, capture_output=True, check=False)
    assert (tmp_path / "MARKER").exists()
