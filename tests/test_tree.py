"""The tree: rooms that can be overlooked, and modules whose names are not taken."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bench", "engines", "models", "reports")
ROOMS = sorted(
    str(folder.relative_to(ROOT))
    for package in PACKAGES
    for folder in (ROOT / package, *(ROOT / package).rglob("*"))
    if folder.is_dir() and any(folder.glob("*.py"))
)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_about_a_dozen_modules(room):
    modules = [path.stem for path in (ROOT / room).glob("*.py") if not path.stem.startswith("__")]
    assert len(modules) <= 13, "split it"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_names_everything_that_is_in_it(room):
    doc = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) or ""
    modules = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__", "__main__"}
    rooms = {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}
    assert set(re.findall(r"`([a-z0-9_]+)`", doc)) == modules | rooms


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_is_named_like_one_of_the_standard_library(room):
    names = {Path(room).name, *(path.stem for path in (ROOT / room).glob("*.py"))}
    assert not names & (set(sys.stdlib_module_names) - {"__init__", "__main__"})
