"""Where built engines are kept, and what becomes of a cache that cannot be written to."""

import os
import tempfile
from pathlib import Path

import pytest

from bench import demo
from bench.errors import InputError
from bench.plan.cache import cache_folder, demo_data, prepare_cache
from bench.progress import Unshown
from tests.full_disk import most_bytes_in_a_file


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user's folder in which nothing can be made, also by root: a file."""
    monkeypatch.setenv("VOXBENCH_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "home").write_text("")
    return tmp_path / "home"


def test_a_cache_that_was_named_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        InputError, match=r"/file/cache: the cache cannot be written to \(Not a directory\); set VOXBENCH_CACHE to"
    ):
        prepare_cache(pytest.fail)


def test_a_home_that_cannot_be_written_to_is_told_and_a_temporary_folder_taken(home):
    notes: list[str] = []
    prepare_cache(notes.append)
    assert cache_folder().parent == home.parent
    assert notes[0].startswith(
        f"{home}/.cache/voxbench: the cache cannot be written to (Not a directory); set VOXBENCH_CACHE"
    )
    prepare_cache(pytest.fail)  # from now on it can be


def test_a_later_process_finds_what_is_kept_among_temporary_files(home, monkeypatch):
    """Else the volumes of a run of the demo that was interrupted are gone, and it cannot be gone on with."""
    prepare_cache([].append)
    first = cache_folder()
    (first / "demo").mkdir()
    monkeypatch.setenv("VOXBENCH_CACHE", "")
    prepare_cache([].append)
    assert cache_folder() == first
    assert (first / "demo").is_dir()
    assert first.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("place", ["open to others", "link", "file"])
def test_a_folder_into_which_others_could_put_code_is_not_taken(home, place):
    folder = home.parent / f"voxbench-cache-{os.getuid()}"
    if place == "link":
        folder.symlink_to(home.parent)
    elif place == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    prepare_cache([].append)
    assert cache_folder() != folder
    assert cache_folder().parent == home.parent


def test_a_user_without_a_home(home, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    notes: list[str] = []
    prepare_cache(notes.append)
    assert notes[0].startswith("no home folder to keep built engines in; set VOXBENCH_CACHE to a folder. Until then")


def test_no_folder_at_all_is_one_line(home, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(home / "temporary"))
    with pytest.raises(InputError, match=r"set VOXBENCH_CACHE .*; and no temporary folder can be written to"):
        prepare_cache(pytest.fail)


def test_engines_are_not_looked_for_in_the_current_folder(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == home / ".cache" / "voxbench"


def test_a_name_that_the_runtimes_cannot_take_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXBENCH_CACHE", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(InputError, match="the name of the cache is not UTF-8"):
        prepare_cache(pytest.fail)


def test_a_demo_that_the_disk_cannot_hold_is_told_with_its_place(tmp_path, monkeypatch):
    """As where the cache is on a disk of its own: a probe of 4 kB has room there, and 36 volumes have not."""
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path))
    draw = demo.write_demo

    def on_a_full_disk(*arguments, **options):
        with most_bytes_in_a_file(10_000):
            return draw(*arguments, **{**options, "processes": 1})

    monkeypatch.setattr(demo, "write_demo", on_a_full_disk)
    said = rf"{tmp_path}/demo-\d+: the demo's volumes cannot be written \(File too large\); make room, or set VOXBENCH_"
    with pytest.raises(InputError, match=said):
        demo_data(Unshown())
    assert not any(tmp_path.iterdir())
