"""An image of any format as NIfTI without a word of the file that it came from: its voxels, and where they lie."""

from io import BytesIO
from pathlib import Path
from typing import Any

from bench.data.compression import gzip
from bench.data.formats import load
from bench.data.volume import damage_reported
from bench.data.voxels import stored_voxels

# Of a header: how voxels are stored, and where they lie. Texts and extensions are not among it, nor are numbers for the
# programs of a maker.
_KEPT = (
    "dim", "datatype", "bitpix", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "intent_code",
)  # fmt: skip


def anonymised(path: Path) -> bytes:
    """The image in `path`, which `open_channels` takes, as a gzipped NIfTI file: voxels as stored, slope, affine.

    Raises:
        InputError: its voxels cannot be read.
    """
    with damage_reported(path):
        image = load(path)
        voxels = stored_voxels(image)
        if voxels is None:
            voxels = image.dataobj.get_unscaled()
    header = _header(image)
    content = BytesIO()
    header.write_to(content)
    content.write(voxels.astype(header.get_data_dtype(), copy=False).tobytes(order="F"))
    return gzip(content.getbuffer())


def _header(image: Any) -> Any:
    """A new one with the fields that count."""
    header = type(image.header)(endianness=image.header.endianness)
    for name in _KEPT:
        header[name] = image.header[name]
    header["scl_slope"], header["scl_inter"] = image.dataobj.slope, image.dataobj.inter
    header["vox_offset"] = header.single_vox_offset
    return header
