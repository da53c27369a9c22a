"""Files as they come over the network: bounded, unpacked, and under names that say nothing."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from bench.data.compression import ERRORS, gunzip_within
from bench.data.volume import open_channels
from bench.errors import InputError
from models.errors import one_line

MOST_BYTES = 4 * 2**30
"""Of voxels and headers in a request, unpacked. A CT of 512 x 512 x 1000 has 0.5 GiB as int16, and 1 GiB as float32."""

_DAMAGED: tuple[type[Exception], ...] = (EOFError, *ERRORS)
_GZIP, _METAIMAGE = b"\x1f\x8b", b"ObjectType"
_LEAST = 352  # bytes of a NIfTI file: its header, and four that say whether there are extensions


def write_received(files: Sequence[bytes], folder: Path, most_bytes: int = MOST_BYTES) -> tuple[Path, ...]:
    """Write the files of a case into `folder` as ``image_0000.nii`` and so on, in their order, NIfTI unpacked.

    Raises:
        InputError: one is neither NIfTI nor MetaImage, is damaged, or together they hold more than `most_bytes`.
        OSError: it cannot be written.
    """
    paths, left = list[Path](), most_bytes
    for number, content in enumerate(files):
        path = folder / f"image_{number:04}{'.mha' if content.startswith(_METAIMAGE) else '.nii'}"
        if path.suffix == ".nii":
            content = _unpacked(path.name, content, left, most_bytes)
        path.write_bytes(content)
        left -= max(len(content), _voxel_bytes(path))
        if left < 0:
            raise _too_large(path.name, most_bytes)
        paths.append(path)
    return tuple(paths)


def _voxel_bytes(path: Path) -> int:
    """As many as its header says, for which room is made before the first is read."""
    return sum(prod(image.shape) * image.get_data_dtype().itemsize for image in open_channels((path,)))


def _unpacked(name: str, packed: bytes, left: int, most_bytes: int) -> bytes:
    content: bytes | None = packed
    if packed.startswith(_GZIP):
        try:
            content = gunzip_within(packed, left)
        except _DAMAGED as error:
            raise InputError(f"{name}: damaged or cut short ({one_line(error)}); send it again") from None
    if content is None or len(content) > left:
        raise _too_large(name, most_bytes)
    if len(content) < _LEAST:
        raise InputError(f"{name}: {len(content)} bytes, which is no NIfTI file; send one, gzipped or not")
    return content


def _too_large(name: str, most_bytes: int) -> InputError:
    return InputError(
        f"{name}: the case has more than {most_bytes / 2**30:.3g} GiB unpacked, which is all that is taken here; "
        "send a part of it, or raise most_gigabytes where the model is served"
    )
