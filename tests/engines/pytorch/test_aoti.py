"""A package of AOTInductor is loaded in a process of its own before the engine loads it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from engines.base import EngineError
from engines.probe import compiler_missing
from engines.pytorch import aoti

ON_CPU = -1


def test_a_package_that_loads_is_taken(tmp_path: Path) -> None:
    if compiler_missing() is not None:
        pytest.skip("there is no C++ compiler")
    with torch.no_grad():
        program = torch.export.export(nn.Linear(4, 2).eval(), (torch.rand(1, 4),))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "linear.pt2"))
    aoti._try_loading(Path(path), ON_CPU)


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "network.pt2"
    path.write_bytes(b"no package")
    with pytest.raises(EngineError, match=r"^PyTorch .* cannot load the package that it built \([^\n]+\); take "):
        aoti._try_loading(path, ON_CPU)


def test_a_crash_ends_only_the_process_that_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aoti, "_LOADING", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EngineError, match=r"\(SIGSEGV\); take torch-compile instead$"):
        aoti._try_loading(tmp_path, ON_CPU)
