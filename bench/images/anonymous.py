"""NIfTI files for others: voxels and where they lie, and no word of the file that they came from."""

from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bench.data.compression import gzip
from bench.data.formats import ItkVoxels, load, packed_image
from bench.data.volume import damage_reported
from bench.data.voxels import stored_voxels

_HEADER_BYTES = 352  # with four bytes that say that there is no extension
_SPATIAL = 3
# Of a header: how voxels are stored, and where they lie. Texts and extensions are not among it, nor are numbers for the
# programs of a maker.
_KEPT = (
    "dim", "datatype", "bitpix", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "intent_code",
)  # fmt: skip


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


def anonymised(path: Path) -> tuple[str, bytes]:
    """The image in `path`, which `open_channels` takes, as another file: voxels as stored, slope, and where they lie.

    Of what ITK reads in three dimensions it is a MetaImage, whose geometry is ITK's own to the last bit; of all else a
    NIfTI file. Before its content stands the ending of its name.

    Raises:
        InputError: its voxels cannot be read.
    """
    with damage_reported(path):
        image = load(path)
        if isinstance(image.dataobj, ItkVoxels) and len(image.shape) == _SPATIAL:
            return ".mha", packed_image(image)
        voxels = stored_voxels(image)
        if voxels is None:
            voxels = image.dataobj.get_unscaled()
    header = _header(image)
    content = BytesIO()
    header.write_to(content)
    content.write(voxels.astype(header.get_data_dtype(), copy=False).tobytes(order="F"))
    return ".nii.gz", gzip(content.getbuffer())


def _header(image: Any) -> Any:
    """A new one with the fields that count."""
    header = type(image.header)(endianness=image.header.endianness)
    for name in _KEPT:
        header[name] = image.header[name]
    header["scl_slope"], header["scl_inter"] = image.dataobj.slope, image.dataobj.inter
    header["vox_offset"] = header.single_vox_offset
    return header
