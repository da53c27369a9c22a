"""A package of AOTInductor is loaded in a process of its own before the engine loads it.

One that loads is in `tests/engines/test_tasks.py`.
"""

from pathlib import Path

import pytest

from engines.base import EngineError, Target
from engines.pytorch import aoti

ON_CPU = -1


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "network.pt2"
    path.write_bytes(b"no package")
    with pytest.raises(EngineError, match=r"^PyTorch .* cannot load the package that it built \([^\n]+\); take "):
        aoti._try_loading(path, ON_CPU)


def test_a_crash_ends_only_the_process_that_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aoti, "_LOADING", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EngineError, match=r"\(SIGSEGV\); take torch-compile instead$"):
        aoti._try_loading(tmp_path, ON_CPU)


def test_a_package_of_another_machine_where_there_is_no_compiler(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (tmp_path / "aoti-0123").mkdir()
    target = Target("cpu", (16, 16, 16), 1, 1, tmp_path / "cache", prebuilt=tmp_path)
    with pytest.raises(EngineError, match=r"^the package holds none for this machine, and here the C\+\+ compiler no-"):
        aoti._build(None, target, tmp_path)
