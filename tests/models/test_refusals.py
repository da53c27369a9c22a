"""Files that are refused: each with one line that names the file, what is in it, and what to do."""

import contextlib
import copyreg
import gzip
import io
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnx
import pytest
import torch

from models.architecture import load_model
from models.checkpoint import CheckpointError, read_checkpoint
from models.unet import MultiTaskUNet
from models.unpickling import refuse_old_torch

Hold = Callable[..., Path]
Save = Callable[..., Path]
EXTENSION = 0x7F
COMMAND = b"X\x0c\x00\x00\x00touch MARKER"
POSIX = os.system.__module__.encode()


def refused(path: Path, *said: str) -> str:
    """Read a file that must be refused; check the form of the refusal."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert "; " in message
    for words in said:
        assert words in message, message
    return message


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the code in hostile checkpoints would create; it must not be there after the test."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "MARKER"
    assert not (tmp_path / "MARKER").exists()


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


HOSTILE = {
    "reduce": (b"\x80\x02c" + POSIX + b"\nsystem\n" + COMMAND + b"\x85R.", "posix.system"),
    "reduce through os": (b"\x80\x02cos\nsystem\n" + COMMAND + b"\x85R.", "os.system"),
    "stack global": (b"\x80\x04" + text(POSIX) + text(b"system") + b"\x93" + COMMAND + b"\x85R.", "posix.system"),
    "inst": (b"(" + COMMAND + b"i" + POSIX + b"\nsystem\n.", "posix.system"),
    "obj": (b"\x80\x02(c" + POSIX + b"\nsystem\n" + COMMAND + b"o.", "posix.system"),
    "newobj": (b"\x80\x02csubprocess\nPopen\n" + text(b"touch MARKER") + b"\x85\x81.", "subprocess.Popen"),
    "newobj with keywords": (b"\x80\x04csubprocess\nPopen\n)}\x92.", "subprocess.Popen"),
    "build": (b"\x80\x02cbuiltins\nobject\n)\x81}" + text(b"__class__") + text(b"x") + b"sb.", "builtins.object"),
    "extension code": (b"\x80\x02\x82" + bytes([EXTENSION]) + COMMAND + b"\x85R.", f"extension {EXTENSION}"),
    "eval": (b"\x80\x02cbuiltins\neval\n" + text(b"open('MARKER', 'w')") + b"\x85R.", "builtins.eval"),
    "python 2 eval": (b"\x80\x02c__builtin__\neval\n" + text(b"open('MARKER', 'w')") + b"\x85R.", "builtins.eval"),
    "getattr": (b"\x80\x02cbuiltins\ngetattr\n", "builtins.getattr"),
    "import": (b"\x80\x02cbuiltins\n__import__\n" + text(b"MARKER") + b"\x85R.", "builtins.__import__"),
    "torch's own loader": (
        b"\x80\x02ctorch.serialization\nload\n" + text(b"x") + b"\x85R.",
        "torch.serialization.load",
    ),
    "torch.hub": (b"\x80\x02ctorch.hub\nload\n" + text(b"x") + b"\x85R.", "torch.hub.load"),
    "numpy's array": (b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n", "numpy._core.multiarray._reconstruct"),
}


@pytest.mark.parametrize("route", HOSTILE)
def test_code_is_never_run(holding: Hold, marker: Path, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled, wanted = HOSTILE[route]
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    copyreg.add_extension(POSIX.decode(), "system", EXTENSION)
    try:
        refused(holding(pickled), wanted, "where you trust its source")
        legacy = marker.with_name("legacy.pth")
        head = io.BytesIO()
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, head, protocol=2)
        legacy.write_bytes(head.getvalue() + pickled)
        refused(legacy, wanted)
    finally:
        copyreg.remove_extension(POSIX.decode(), "system", EXTENSION)


def test_code_beside_real_weights(network: MultiTaskUNet, saved: Save, marker: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    held = {"model_state_dict": network.state_dict(), "extra": Trap()}
    refused(saved(held), "posix.system")
    refused(saved(held, pickle_protocol=4), "posix.system")
    refused(saved(held, _use_new_zipfile_serialization=False), "posix.system")
    marker.with_name("bare.pkl").write_bytes(pickle.dumps(Trap(), protocol=4))
    refused(marker.with_name("bare.pkl"), "a pickle that torch.save did not write", "posix.system")


def test_whole_modules_and_their_like_are_named(network: MultiTaskUNet, saved: Save) -> None:
    refused(saved(network), "models.unet.MultiTaskUNet", "network.state_dict()")
    refused(saved({"state_dict": network.state_dict(), "config": Path("x")}), "it wants pathlib.")
    refused(saved({"state_dict": network.state_dict(), "curve": np.zeros(3)}), "multiarray._reconstruct")


def test_globals_that_other_libraries_allowed_stay_closed(saved: Save) -> None:
    with torch.serialization.safe_globals([Path, type(Path("x"))]):
        before = set(torch.serialization.get_safe_globals())
        refused(saved({"state_dict": {"x": torch.ones(1)}, "config": Path("x")}), "it wants pathlib.")
        assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cnumpy\ndtype\n" + text(b"O8") + b"\x85R.",
        b"\x80\x02cnumpy\ndtype\n" + text(b"(99999,99999)f8") + b"\x85R.",
        b"\x80\x02cnumpy\ndtype\n]\x85R.",
        b"\x80\x02cnumpy\ndtype\n)\x81N\x85b.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n)\x81" + text(b"12345678") + b"\x86R.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text(b"f8") + b"\x85R" + text(b"1234") + b"\x86R.",
        b"\x80\x02ccollections\nOrderedDict\n)R}" + text(b"items") + b"K\x01sb.",
        b"\x80\x02}q\x00" + text(b"model") + b"h\x00s.",
        b"\x80\x02}q\x00(" + text(b"a") + text(b"b") + b"u.",
    ],
)
def test_odd_use_of_what_is_allowed(holding: Hold, pickled: bytes) -> None:
    refused(holding(pickled))


def test_what_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pth", "there is no such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is not a regular file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"epoch,loss\n1,0.5\n", "is a text file"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 64, "it starts with 89 48 44 46"),
        (b"PK\x03\x04" + b"\x00" * 200, "is a zip archive cut short"),
        (gzip.compress(b"weights" * 40), "is gzip-compressed"),
        (pickle.dumps({"weights": [1.0]}), "is a pickle that torch.save did not write"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "convert it where it was written"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "best_model.pth").write_bytes(content)
    refused(tmp_path / "best_model.pth", said)


def test_other_formats_are_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    for name in ("image.nii", "image.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / name)  # type: ignore[no-untyped-call]
        refused((tmp_path / name).rename(path), "is a NIfTI image")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(path, "is a safetensors file")
    linear = torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.trace(linear, torch.ones(1, 2)), path)  # type: ignore[no-untyped-call]
    refused(path, "is a TorchScript archive")
    torch.export.save(torch.export.export(linear, (torch.ones(1, 2),)), tmp_path / "program.pt2")
    refused((tmp_path / "program.pt2").rename(path), "is a torch.export program")
    graph = onnx.helper.make_graph([], "empty", [], [])
    path.write_bytes(onnx.helper.make_model(graph, producer_name="test").SerializeToString())
    refused(path, "is an ONNX model")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    refused(tmp_path / "arrays.npz", "without the data.pkl")


def test_archives_packed_or_named_otherwise(network: MultiTaskUNet, saved: Save, holding: Hold) -> None:
    refused(holding(b"\x80\x02}.", compression=zipfile.ZIP_DEFLATED), "re-packed with compression")
    refused(saved(network.state_dict(), "model.safetensors"), "rename it")


def test_truncation_at_any_place(reference: dict[str, Any], saved: Save) -> None:
    for legacy in (False, True):
        path = saved(reference, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        for kept in (1, 20, 64, 600, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:kept])
            refused(path)


def test_flipped_bytes_never_crash(saved: Save, repickled: Callable[..., Path]) -> None:
    state = {"enc1.0.weight": torch.ones(2, 1, 3, 3, 3)}
    draw = random.Random(0)

    def flip(pickled: bytes) -> bytes:
        damaged = bytearray(pickled)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        return bytes(damaged)

    for _ in range(200):
        path = repickled(saved({"model": state, "best": np.float64(0.5)}), flip)
        with contextlib.suppress(CheckpointError):  # or it is read: not every byte matters
            read_checkpoint(path)


def test_no_weights_to_be_found(saved: Save) -> None:
    refused(saved(torch.ones(3)), "holds a Tensor where a dict of tensors is expected")
    refused(saved([1, 2]), "holds a list")
    refused(saved({}), "holds no tensors among its keys (none)")
    refused(saved({"epoch": 3, "weights": {"a": torch.ones(1)}}), "among its keys (epoch, weights)", "model_state_dict")
    refused(saved({"state_dict": {"a": 1}}), "holds no tensors under state_dict")


def test_tensors_that_are_no_plain_weights(saved: Save) -> None:
    refused(saved({"a": torch.eye(3).to_sparse()}), "torch.sparse_coo")
    refused(saved({"a": torch.ones(3, device="meta")}), "meta tensor")
    refused(saved({"a": torch.ones(1).expand(10**12)}), "claims 1000000000000 elements for a and stores 4 bytes")


def test_control_characters_do_not_reach_the_terminal(saved: Save) -> None:
    refused(saved({"\x1b[2J\nenc": torch.ones(1)}), "enc")


def test_old_torch_is_refused() -> None:
    for version in ("2.5.1", "2.9.1+cu128"):
        with pytest.raises(CheckpointError, match="CVE-2026-24747"):
            refuse_old_torch(Path("model.pth"), version)
    for version in ("2.10.0", "2.13.0+cpu", "3.0.0a0+git1"):
        refuse_old_torch(Path("model.pth"), version)
