"""Which kind of file lies at a path, by its content and never by its name."""

import zlib
from collections.abc import Callable
from pathlib import Path

from models.errors import CheckpointError, refusal, some
from models.reader.torch_pickle.verifier import MOST_BYTES, globals_in
from models.reader.zip_archive import entries_of

TORCH_ZIP = "torch-zip"
TORCH_LEGACY = "torch-legacy"
SAFETENSORS = "safetensors"
TORCHSCRIPT = "torchscript"
EXPORTED = "torch-export"
ONNX = "onnx"

_HEAD = 512  # bytes by which the formats are distinguished
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save's magic number, pickled, before 1.6
_ONNX_SECOND_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"  # protobuf tags that may follow ModelProto.ir_version
_EXPORTED = {"archive_format", "models/model.json", "serialized_exported_program.json"}  # one of them in a .pt2
_NATIVE = "data/aotinductor/"  # where a .pt2 holds what AOTInductor compiled
_GIVE_CHECKPOINT = "give the .pth or .pt file that torch.save wrote"
_JOIN = "join them: read each with safetensors.torch.load_file, write all with save_file, and give that file"


def container_of(path: Path) -> str:
    """Return the kind of file: `TORCH_ZIP` and the other constants above.

    Raises:
        CheckpointError: the file is missing, unreadable, or of a kind that is not read here.
    """
    if path.is_dir():
        raise refusal(path, "is a folder", "give the checkpoint file itself, or a MONAI bundle")
    try:
        if not path.exists():
            raise refusal(path, "there is no such file", "check the path")
        if not path.is_file():
            raise refusal(path, "is not a regular file", _GIVE_CHECKPOINT)
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise refusal(path, f"cannot be read ({error.strerror})", "check the path and its permissions") from None
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(_LEGACY_MAGIC):
        return TORCH_LEGACY
    if _is_onnx(head):
        return ONNX
    if _is_safetensors(head):
        return SAFETENSORS
    raise _foreign(path, head)


def _zip_kind(path: Path) -> str:
    """Distinguish PyTorch's three kinds of zip archive, and refuse every other one."""
    entries = entries_of(path)
    inner = {entry.name.partition("/")[2] for entry in entries}
    if any(name.startswith(_NATIVE) for name in inner):
        problem = "is an AOTInductor package: native code for one kind of machine, which runs as it is loaded"
        raise refusal(path, problem, "give the checkpoint it was compiled from; torch-aoti compiles it here")
    if "constants.pkl" in inner:
        return TORCHSCRIPT
    if inner & _EXPORTED:
        return EXPORTED
    if "data.pkl" not in inner:
        raise refusal(path, "is a zip archive without the data.pkl of a checkpoint", _GIVE_CHECKPOINT)
    packed = [entry.name for entry in entries if entry.packed]
    if packed:
        # The compressed bytes would be taken for weights.
        raise refusal(path, f"was re-packed with compression ({some(packed)})", "unpack it and pack it with zip -0 -r")
    return TORCH_ZIP


def _foreign(path: Path, head: bytes) -> CheckpointError:
    for is_kind, problem, remedy in _FOREIGN:
        if is_kind(head):
            return refusal(path, problem, remedy)
    if head[:1] == b"\x80":
        with path.open("rb") as file:
            wanted = globals_in(file.read(MOST_BYTES))
        problem = "is a pickle that torch.save did not write" + (f", and wants {some(wanted)}" if wanted else "")
        return refusal(path, problem, "do not load it; where you trust its source, re-save its weights with torch.save")
    kind = "is a text file" if _is_text(head) else f"is not a checkpoint (it starts with {head[:8].hex(' ')})"
    return refusal(path, kind, _GIVE_CHECKPOINT)


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _is_nifti(head: bytes) -> bool:
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
        except zlib.error:
            return False
    return head[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000


def _is_shard_index(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and (b'"weight_map"' in head or b'"total_size"' in head)


def _is_onnx(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 8 and 1 <= head[1] <= 20 and head[2] in _ONNX_SECOND_FIELDS


_FOREIGN: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (lambda head: not head, "is empty", "copy or download the file again"),
    (_is_nifti, "is a NIfTI image, not a checkpoint", "images go into the data folder; " + _GIVE_CHECKPOINT),
    (_is_shard_index, "is the index of a safetensors checkpoint in several files", _JOIN),
    (lambda head: head.startswith(b"version https://git-lfs"), "is a Git LFS pointer", "run git lfs pull"),
    (lambda head: head.lstrip()[:5].lower() in (b"<!doc", b"<html"), "is a web page", "download the file again"),
    (lambda head: head.startswith(b"\x1f\x8b"), "is gzip-compressed", "unpack it with gunzip"),
)
