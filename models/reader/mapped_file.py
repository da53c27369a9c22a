"""A file whose tensors are views of its bytes until they are copied out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import refusal

_PIECE = 2**18  # elements that are copied and looked at while they are in the cache
_NUMPY_KNOWS = (torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128)


class MappedFile:
    """A file mapped into memory; its pages are read when they are touched, and never written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.data = torch.UntypedStorage.from_file(str(path), False, self.size)

    def copy(self, tensor: Tensor) -> tuple[Tensor, bool]:
        """Copy a view of this file, contiguous, and say whether all its numbers are finite.

        The bytes are read from the file and not through the mapping: pages touched there would stand in memory beside
        the copies.

        Raises:
            CheckpointError: the file has become shorter.
        """
        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype), True
        spanned = 1 + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))
        if spanned > 2 * tensor.numel():  # few elements far apart
            own = tensor.clone(memory_format=torch.contiguous_format)
            return own, is_finite(own)
        own = torch.empty(spanned, dtype=tensor.dtype)
        finite = True
        with self.path.open("rb", buffering=0) as file:
            file.seek(tensor.data_ptr() - self.data.data_ptr())
            for start in range(0, spanned, _PIECE):
                piece = own[start : start + _PIECE]
                rest = piece.view(torch.uint8).numpy().data
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise refusal(self.path, "has become shorter while it was read", "wait until it is written")
                    rest = rest[count:]
                finite = finite and is_finite(piece)
        return own.as_strided(tensor.shape, tensor.stride()).contiguous(), finite


def is_finite(tensor: Tensor) -> bool:
    """Say whether a tensor on the CPU holds neither NaN nor infinity."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    known = tensor if tensor.dtype in _NUMPY_KNOWS else tensor.float()
    return bool(np.isfinite(known.detach().numpy()).all())
