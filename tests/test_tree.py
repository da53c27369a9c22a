"""The tree: rooms that can be overlooked, and modules whose names are not taken."""

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
def test_a_room_has_about_a_dozen_modules_and_says_what_is_in_it(room):
    modules = [path.stem for path in (ROOT / room).glob("*.py") if not path.stem.startswith("__")]
    assert len(modules) <= 13, "split it"
    text = (ROOT / room / "__init__.py").read_text()
    assert text.startswith('"""')
    doc = text.split('"""')[1]
    assert len(doc.split()) >= 8, "what a newcomer finds here"


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_is_named_like_one_of_the_standard_library(room):
    names = {Path(room).name, *(path.stem for path in (ROOT / room).glob("*.py"))}
    assert not names & (set(sys.stdlib_module_names) - {"__init__", "__main__"})
