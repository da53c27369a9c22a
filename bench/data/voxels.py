"""The voxels of a NIfTI file: one gunzip, then one pass that scales them and lays them out for cutting tiles.

The values are those of nibabel's ``get_fdata(dtype=float32)``, bit by bit: its own scaling is applied block by block.
While it reads, a case takes the stored voxels (2 bytes each for int16) and the packed file beside the 4 bytes of the
result. At the peak that is 6 bytes a voxel, measured with 512 x 512 x 300 of int16; ``get_fdata`` takes 16 where a
slope or an intercept is applied, and 8 where none is and its result is copied to the same order of the axes.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from bench.data.blocks import columns, rows
from bench.data.compression import gunzip, gunzip_to_the_end
from bench.data.dicom.series import SeriesVoxels
from bench.data.formats import ItkVoxels

_MOST_THREADS = 4  # a block takes some ten microseconds, in part of which Python's lock is held
_PART = 2**20  # voxels that are converted at a time
_EXPANSION = 1032  # the most that deflate gains
_SENDABLE = ("i1", "u1", "i2", "u2", "i4", "i8", "f4", "f8")  # types that `bench.pipeline.preprocess` converts on a GPU


@dataclass(frozen=True)
class StoredVoxels:
    """Voxels as a file holds them; what they mean is ``values x slope + inter``, computed in float64.

    Attributes:
        values: ``[X, Y, Z]``, in the machine's own byte order.
        finite: whether what they mean is, as their type alone tells.
    """

    values: NDArray[Any]
    slope: float
    inter: float
    finite: bool


def read_voxels(nifti: Any, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Scaled voxels ``[X, Y, Z]`` of a 3-D nibabel image, float32, C-contiguous; in `out` where that is given.

    Raises:
        OSError, EOFError, ValueError, or one of `compression.ERRORS`: the file is damaged or cut short.
    """
    voxels = np.empty(nifti.shape, np.float32) if out is None else out
    _scale(voxels, *_stored(nifti, np.float32))
    return voxels


def read_channels(nifti: Any) -> NDArray[np.float32]:
    """Scaled voxels ``[C, X, Y, Z]`` of a 4-D nibabel image ``[X, Y, Z, C]``, float32, C-contiguous.

    Raises:
        as `read_voxels`
    """
    voxels = np.empty((nifti.shape[3], *nifti.shape[:3]), np.float32)
    stored, slope, inter = _stored(nifti, np.float32)
    for number, channel in enumerate(voxels):
        _scale(channel, stored[..., number], slope, inter)
    return voxels


class ChannelVoxels:
    """A part of the 4-D nibabel image `whole`, read when it is asked for, in the form of nibabel's `ArrayProxy`."""

    is_proxy = True

    def __init__(self, whole: Any, channel: int) -> None:
        self.whole = whole
        self.shape = whole.shape[:3]
        self.dtype = whole.get_data_dtype()
        self._channel = channel

    @property
    def ndim(self) -> int:
        return 3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.whole.dataobj[..., self._channel], dtype)

    def __getitem__(self, part: Any) -> Any:
        return np.asarray(self)[part]


def _scale(voxels: NDArray[np.float32], stored: NDArray[Any], slope: float, inter: float) -> None:
    """Put ``stored x slope + inter`` into `voxels`, block by block."""

    def scale(x: slice) -> None:
        for block, values in _scaled(stored, slope, inter, x):
            # nibabel rounds twice where the first rounding is to float64, as of int64.
            voxels[block] = values.astype(np.promote_types(values.dtype, np.float32), copy=False)

    parts = list(rows(voxels.shape))
    if len(parts) == 1:
        scale(parts[0])  # a pool of threads takes longer to start
    else:
        with ThreadPoolExecutor(_threads()) as pool:
            list(pool.map(scale, parts))


def _threads() -> int:
    import torch  # not needed by who reads headers, or sends voxels as they are stored

    return min(torch.get_num_threads(), _MOST_THREADS)


def scaled_blocks(nifti: Any) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float64]]]:
    """Scaled voxels of a 3-D nibabel image block by block, as float64, and where each block lies.

    Raises:
        as `read_voxels`
    """
    stored = _stored(nifti, np.float64)
    for x in rows(nifti.shape):
        for block, values in _scaled(*stored, x):
            yield block, values.astype(np.float64, copy=False)


def _stored(nifti: Any, dtype: type) -> tuple[NDArray[Any], float, float]:
    """Voxels, and the slope and the intercept that they still need."""
    stored = stored_voxels(nifti)
    if stored is None or stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
        return nifti.get_fdata(dtype=dtype, caching="unchanged"), 1.0, 0.0
    return stored, nifti.dataobj.slope, nifti.dataobj.inter


def _scaled(
    stored: NDArray[Any], slope: float, inter: float, x: slice
) -> Iterator[tuple[tuple[slice, slice], NDArray[Any]]]:
    for y in columns(stored.shape):
        yield (x, y), apply_read_scaling(stored[x, y], slope, inter)


def stored_voxels(nifti: Any) -> NDArray[Any] | None:
    """Voxels as the file holds them, not scaled, of a plain NIfTI as a view of its bytes; None for others of nibabel's.

    Raises:
        as `read_voxels`
    """
    if isinstance(nifti.dataobj, ItkVoxels | SeriesVoxels):
        return nifti.dataobj.get_unscaled()
    if not _is_plain(nifti):
        return None
    proxy: Any = nifti.dataobj
    path, content = Path(nifti.get_filename()), None
    size = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if path.suffix.casefold() == ".gz" and size <= _EXPANSION * path.stat().st_size:
        content = gunzip(path.read_bytes(), size)
        if content is None:  # in several members, with something behind the voxels, or too short
            content = gunzip_to_the_end(path, size)
    if content is None:
        unscaled: NDArray[Any] = proxy.get_unscaled()
        return unscaled
    return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order="F")


def _is_plain(nifti: Any) -> bool:
    """Whether it is a NIfTI whose voxels lie in its file."""
    return type(nifti) in (nib.Nifti1Image, nib.Nifti2Image) and type(nifti.dataobj) is ArrayProxy


def is_sendable(nifti: Any) -> bool:
    """Whether `read_stored_voxels` can give the voxels of a nibabel image."""
    dtype = nifti.get_data_dtype()
    known = dtype.isnative and dtype.str[1:] in _SENDABLE
    return known and (_is_plain(nifti) or isinstance(nifti.dataobj, ItkVoxels | SeriesVoxels))


def read_stored_voxels(nifti: Any) -> list[StoredVoxels]:
    """The voxels of a sendable 3-D nibabel image, or those of each channel of a 4-D one ``[X, Y, Z, C]``.

    Raises:
        as `read_voxels`
    """
    stored, proxy = stored_voxels(nifti), nifti.dataobj
    assert stored is not None
    slope, inter = float(proxy.slope), float(proxy.inter)
    finite = is_finite_type(stored.dtype, slope, inter)
    channels = [stored] if stored.ndim == 3 else [stored[..., number] for number in range(stored.shape[3])]
    return [StoredVoxels(values, slope, inter, finite) for values in channels]


def needs_no_scaling(nifti: Any) -> bool:
    """Whether a nibabel image is a plain NIfTI whose voxels mean what the file holds."""
    return _is_plain(nifti) and (nifti.dataobj.slope, nifti.dataobj.inter) == (1, 0)


def copy_as_stored(nifti: Any, out: NDArray[np.float32]) -> None:
    """Put the voxels of an image that needs no scaling into `out`, ``[Z, Y, X]``: axes in the order of the file.

    Raises:
        as `read_voxels`
    """
    stored = stored_voxels(nifti)
    assert stored is not None
    flat, target = stored.ravel(order="K"), out.reshape(-1)  # both views
    parts = [slice(first, first + _PART) for first in range(0, flat.size, _PART)]
    with ThreadPoolExecutor(_threads()) as pool:
        list(pool.map(lambda part: np.copyto(target[part], flat[part], casting="unsafe"), parts))


def all_finite(nifti: Any, voxels: NDArray[np.float32]) -> bool:
    """Whether none of an image's scaled voxels is NaN or infinite; not looked at where its stored type has no such."""
    if is_finite_type(nifti.get_data_dtype(), nifti.dataobj.slope, nifti.dataobj.inter):
        return True
    import torch  # whose pass over a volume is several times as fast as NumPy's two

    return all(math.isfinite(bound) for bound in torch.aminmax(torch.from_numpy(voxels)))  # NaN where one voxel is


def is_finite_type(dtype: np.dtype[Any], slope: float, inter: float) -> bool:
    """Whether every value of a stored type is finite once it is scaled to float32."""
    if dtype.kind not in "iu":
        return False
    bounds = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    with np.errstate(over="ignore"):
        bounds = apply_read_scaling(bounds, slope, inter).astype(np.float32)
    return bool(np.isfinite(bounds).all())  # scaling is monotone: what lies between is finite
