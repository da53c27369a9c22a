"""Predicted masks and classes on disk. A file is complete or absent."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GZIP_LEVEL = 1  # label volumes compress about as well at any level


def write_mask(path: Path, labels: NDArray[np.uint8], source: Any) -> None:
    """Write `labels` with the affine and header of the nibabel image `source`, on whose grid they lie."""
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0  # the image's display window would hide the labels
    mask = type(source)(labels, source.affine, header)
    unfinished = path.with_name(f".{path.name}")
    # No name and no time in the gzip header: equal masks are equal files.
    with unfinished.open("wb") as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
        mask.to_stream(packed)
    unfinished.replace(path)


def write_subtypes(path: Path, subtypes: Iterable[tuple[str, int]]) -> None:
    """Write ``Names,Subtype``, one row a case, in the form the challenge expects."""
    rows = [f"{name}.nii.gz,{subtype}\n" for name, subtype in subtypes]
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text("Names,Subtype\n" + "".join(rows))
    unfinished.replace(path)
