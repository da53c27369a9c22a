"""NIfTI files for others' eyes: voxels and where they lie, and no word of the file that they came from."""

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bench.data.compression import gzip

_HEADER_BYTES = 352  # with four bytes that say that there is no extension


def packed(voxels: NDArray[np.uint8], affine: NDArray[np.float64], slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """A gzipped NIfTI-1 file of `voxels` ``[X, Y, Z]``, which mean ``voxels x slope + intercept``.

    Its header is new: text, dates and extensions of the file that the voxels came from cannot be in it.
    """
    header: Any = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.uint8)
    header.set_data_shape(voxels.shape)
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    header["vox_offset"] = _HEADER_BYTES
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["cal_min"], header["cal_max"] = intercept, intercept + float(voxels.max()) * slope
    return gzip(header.binaryblock.ljust(_HEADER_BYTES, b"\0") + voxels.tobytes(order="F"))
