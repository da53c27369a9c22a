"""The names that a checkpoint's pickle may use, and what each means here: the whole allowlist.

None of them is the object that the file names: each makes a plain value in its place and can do nothing else.
"""

import pickle
import re
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.reader.torch_pickle.placeholders import PLACEHOLDERS, Placeholder

_LARGEST = 2**48  # elements; numel() of more could overflow
_SCALAR_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
_OTHER_TYPES = re.compile(r"[OSUVMmc]\d{0,9}")  # of arrays that are not read: objects, texts, dates, records


def shorten(value: object) -> str:
    """Word a value of the file in a few characters.

    str() would never end where a tuple holds the same tuple twice, which holds the same tuple twice, and so on.
    """
    if isinstance(value, str):
        return value[:20]
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "2^64 or more"
    if isinstance(value, tuple) and all(type(number) is int for number in value):
        return "x".join(map(shorten, value[:8]))
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class Storage:
    """Bytes of the file, and the type of number in them."""

    data: torch.UntypedStorage
    dtype: torch.dtype


class _Dict(dict[Any, Any]):
    """In the place of OrderedDict and Counter; the attributes that a pickle hangs on it are dropped."""

    def __init__(self, items: Any = ()) -> None:
        if isinstance(items, dict):
            super().__init__(dict.items(items))
            return
        for key, value in items:  # as Python 2 wrote them
            if not isinstance(key, str):
                raise pickle.UnpicklingError("an OrderedDict made with keys other than strings")
            self[key] = value

    def __setstate__(self, state: object) -> None:
        pass


class _ScalarType:
    """In the place of `numpy.dtype`: knows plain numbers, and nothing else can be built from it."""

    def __init__(self, code: str, *_flags: object) -> None:
        if not isinstance(code, str) or not (code in _SCALAR_FORMATS or _OTHER_TYPES.fullmatch(code)):
            raise _not_a_number(code)
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"  # (version, byte order, ...); "|" is one byte wide


def _not_a_number(code: object) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"a numpy value of type {shorten(code)}, where only plain numbers are read")


def _scalar(kind: _ScalarType, data: bytes) -> float | Placeholder:
    """In the place of numpy's `scalar(dtype, bytes)`."""
    if kind.code.startswith("O"):
        raise _not_a_number(kind.code)
    if kind.code not in _SCALAR_FORMATS:
        other: Placeholder = PLACEHOLDERS["numpy.ndarray"]()
        return other
    return struct.unpack(kind.order + _SCALAR_FORMATS[kind.code], data)[0]  # type: ignore[no-any-return]


def _encode(text: str, encoding: str) -> bytes:
    """In the place of `_codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("text in an encoding that pickles do not use")
    return text.encode("latin-1")


def _tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any, dtype: Any = None
) -> Tensor:
    """In the place of `torch._utils._rebuild_tensor` and `_v2`: a view of the file's bytes.

    The storage holds all of it: ``offset + sum((size - 1) * stride) + 1`` elements.
    """
    numbers = (offset, *size, *stride)
    if not all(type(number) is int and 0 <= number < _LARGEST for number in numbers) or len(size) != len(stride):
        raise pickle.UnpicklingError(f"a tensor of size {shorten(size)} and stride {shorten(stride)}")
    if any(isinstance(hooks, dict) and hooks for hooks in rest[2:]):
        raise pickle.UnpicklingError("a tensor that is a lazy conjugate or negative")
    dtype = dtype or storage.dtype
    elements, reach = 1, offset + 1
    for length, step in zip(size, stride, strict=True):
        elements, reach = elements * length, reach + (length - 1) * step
    stored = storage.data.nbytes()
    if elements and (elements > _LARGEST or reach * dtype.itemsize > stored):
        raise pickle.UnpicklingError(f"a tensor of size {shorten(size)}, beyond its storage of {stored} bytes")
    if not elements:
        return torch.empty(size, dtype=dtype)
    return torch.empty(0, dtype=dtype, device=storage.data.device).set_(storage.data, offset, size, stride)


def _typed_tensor(
    storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    """In the place of `torch._utils._rebuild_tensor_v3`, which names the dtype itself."""
    return _tensor(storage, offset, size, stride, grad, hooks, *rest, dtype=dtype)


def _wrapped_tensor(value: object, *_rest: object) -> object:
    """In the place of what wraps a tensor: a parameter is read as its data."""
    if not isinstance(value, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return value


def _tensor_with_attributes(make: Any, _kind: object, arguments: tuple[Any, ...], _state: object) -> object:
    """In the place of `torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are dropped."""
    return _wrapped_tensor(make(*arguments))


def _as_tuple(items: Any = ()) -> tuple[Any, ...]:
    """In the place of sets and sizes; nothing is hashed."""
    return tuple(items)


def _device(name: object, index: object = None) -> str:
    return shorten(name) if index is None else f"{shorten(name)}:{shorten(index)}"


_DTYPES = [
    "float64", "float32", "float16", "bfloat16", "complex64", "complex128",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
]  # fmt: skip
_STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64,
}  # fmt: skip

ALLOWLIST: dict[str, object] = {
    "collections.OrderedDict": _Dict,
    "collections.Counter": _Dict,  # of learning rate schedules
    "builtins.set": _as_tuple,
    "_codecs.encode": _encode,
    "numpy.dtype": _ScalarType,
    "numpy.core.multiarray.scalar": _scalar,  # numpy 1.x
    "numpy._core.multiarray.scalar": _scalar,  # numpy 2.x
    "torch.Size": _as_tuple,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _wrapped_tensor,
    "torch._utils._rebuild_parameter_with_state": _wrapped_tensor,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch.Tensor": "a type",
    "torch.nn.parameter.Parameter": "a type",
    "torch.storage.UntypedStorage": torch.uint8,
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": getattr(torch, name) for name in _DTYPES},
    **PLACEHOLDERS,
}

# Tensors that are no plain array of numbers, and what they are called.
UNUSUAL = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
}
