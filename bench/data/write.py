"""Predicted masks and classes on disk. A file is complete or absent."""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bench.data.compression import gzip
from bench.data.formats import format_of, packed_mask
from bench.errors import InputError, StorageError
from models.errors import one_line

NO_NAMES: Mapping[int, str] = MappingProxyType({})


def write_mask(
    path: Path,
    labels: NDArray[np.uint8],
    source: Any,
    names: Mapping[int, str] = NO_NAMES,
    before_named: Callable[[bytes], None] | None = None,
) -> None:
    """Write `labels` where the nibabel image `source` lies: in NIfTI with its affine and header, in DICOM on its
    series, else as ITK has it.

    `names` of labels are for DICOM alone, where each is a segment; one without a name is called after its number. Equal
    labels give equal files as a rule; compare what is in them. They are written fastest where their first axis is
    contiguous, as in the file. `before_named` is called with the file's content once that is safe from a power cut and
    before it gets its name; what it raises leaves no file.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to; nothing is left there.
        InputError: as of `packed_mask`, or a NIfTI header cannot hold what the one of `source` says.
    """
    if format_of(path) != "NIfTI":
        _write_whole(path, packed_mask(path, labels, source, names), before_named)
        return
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0  # the image's display window would hide the labels
    content = io.BytesIO()
    try:
        type(source)(labels, source.affine, header).to_stream(content)
    except HeaderDataError as error:
        raise InputError(f"{path}: its image's header does not fit a mask ({one_line(error)}); correct it") from None
    packed = gzip(content.getbuffer())
    _write_whole(path, packed, before_named)


def write_subtypes(path: Path, subtypes: Iterable[tuple[str, int]]) -> None:
    """Write ``Names,Subtype``, one row a case, in the form the challenge expects.

    Raises:
        StorageError: as of `write_mask`.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("Names", "Subtype"), *((f"{name}.nii.gz", subtype) for name, subtype in subtypes)]
    )
    _write_whole(path, text.getvalue().encode(errors="surrogateescape"))  # names of files, whatever their bytes


def unfinished_of(path: Path) -> Path:
    """What a mask is called until all of it is there."""
    return path.with_name(f".{path.name}")


def _write_whole(path: Path, content: bytes, before_named: Callable[[bytes], None] | None = None) -> None:
    unfinished = unfinished_of(path)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            if before_named is not None:
                file.flush()
                os.fsync(file.fileno())
        if before_named is not None:
            before_named(content)
        unfinished.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if not isinstance(error, OSError):
            raise
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); make room or choose another folder"
        ) from None
