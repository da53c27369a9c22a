"""What is said of a backend that could not be built."""

from pathlib import Path

from bench.schedule import interleave


def test_a_folder_without_room_is_named_beside_the_reason(tmp_path, monkeypatch):
    """Libraries die of a full disk by abort, or say what they could not do next."""
    assert interleave.full_folders(tmp_path, Path("/nowhere")) == ""
    monkeypatch.setattr(interleave, "NO_ROOM", 2**80)
    assert interleave.full_folders(tmp_path, Path("/nowhere")) == f"; there is no room in {tmp_path}"
