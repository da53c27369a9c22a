"""The names that a checkpoint's pickle may use, and what each stands for here: the whole allowlist.

None of them is the object that the file names: each is a stand-in that makes a plain value and can do nothing else.
"""

import pickle
import re
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.reader.torch_pickle.placeholders import STAND_INS, StandIn

_LARGEST = 2**48  # elements; numel() of more could overflow
_SCALAR_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
_OTHER_TYPES = re.compile(r"[OSUVMmc]\d{0,9}")  # of arrays that are not read: objects, texts, dates, records


def shown(value: object) -> str:
    """Put a value of the file in a few words.

    str() would never end where a tuple holds the same tuple twice, which holds the same tuple twice, and so on.
    """
    if isinstance(value, str):
        return value[:20]
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "2^64 or more"
    if isinstance(value, tuple) and all(type(one) is int for one in value):
        return "x".join(map(shown, value[:8]))
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class Storage:
    """Bytes of the file, and the type of number in them."""

    data: torch.UntypedStorage
    dtype: torch.dtype


class _Dict(dict[Any, Any]):
    """Stands in for OrderedDict and Counter; the attributes that a pickle hangs on it are dropped."""

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
    """Stands in for `numpy.dtype`: knows plain numbers, and nothing else can be built from it."""

    def __init__(self, code: str, *_flags: object) -> None:
        if not isinstance(code, str) or not (code in _SCALAR_FORMATS or _OTHER_TYPES.fullmatch(code)):
            raise _no_number(code)
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"  # (version, byte order, ...); "|" is one byte wide


def _no_number(code: object) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"a numpy value of type {shown(code)}, where only plain numbers are read")


def _scalar(kind: _ScalarType, data: bytes) -> float | StandIn:
    """Stand in for numpy's `scalar(dtype, bytes)`."""
    if kind.code.startswith("O"):
        raise _no_number(kind.code)
    if kind.code not in _SCALAR_FORMATS:
        other: StandIn = STAND_INS["numpy.ndarray"]()
        return other
    return struct.unpack(kind.order + _SCALAR_FORMATS[kind.code], data)[0]  # type: ignore[no-any-return]


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("text in an encoding that pickles do not use")
    return text.encode("latin-1")


def _tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any, dtype: Any = None
) -> Tensor:
    """Stand in for `torch._utils._rebuild_tensor` and `_v2`: a view of the file's bytes.

    The storage holds all of it: ``offset + sum((size - 1) * stride) + 1`` elements.
    """
    numbers = (offset, *size, *stride)
    if not all(type(number) is int and 0 <= number < _LARGEST for number in numbers) or len(size) != len(stride):
        raise pickle.UnpicklingError(f"a tensor of size {shown(size)} and stride {shown(stride)}")
    if any(isinstance(one, dict) and one for one in rest[2:]):
        raise pickle.UnpicklingError("a tensor that is a lazy conjugate or negative")
    dtype = dtype or storage.dtype
    elements, reach = 1, offset + 1
    for length, step in zip(size, stride, strict=True):
        elements, reach = elements * length, reach + (length - 1) * step
    stored = storage.data.nbytes()
    if elements and (elements > _LARGEST or reach * dtype.itemsize > stored):
        raise pickle.UnpicklingError(f"a tensor of size {shown(size)}, beyond its storage of {stored} bytes")
    if not elements:
        return torch.empty(size, dtype=dtype)
    return torch.empty(0, dtype=dtype, device=storage.data.device).set_(storage.data, offset, size, stride)


def _typed_tensor(
    storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    """Stand in for `torch._utils._rebuild_tensor_v3`, which names the dtype itself."""
    return _tensor(storage, offset, size, stride, grad, hooks, *rest, dtype=dtype)


def _first(value: object, *_rest: object) -> object:
    """Stand in for what wraps a tensor: a parameter is read as its data."""
    if not isinstance(value, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return value


def _of_type(make: Any, _kind: object, arguments: tuple[Any, ...], _state: object) -> object:
    """Stand in for `torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are dropped."""
    return _first(make(*arguments))


def _listed(items: Any = ()) -> tuple[Any, ...]:
    """Stand in for sets and sizes; nothing is hashed."""
    return tuple(items)


def _device(name: object, index: object = None) -> str:
    return shown(name) if index is None else f"{shown(name)}:{shown(index)}"


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

CONSTRUCTORS: dict[str, object] = {
    "collections.OrderedDict": _Dict,
    "collections.Counter": _Dict,  # of learning rate schedules
    "builtins.set": _listed,
    "_codecs.encode": _encode,
    "numpy.dtype": _ScalarType,
    "numpy.core.multiarray.scalar": _scalar,  # numpy 1.x
    "numpy._core.multiarray.scalar": _scalar,  # numpy 2.x
    "torch.Size": _listed,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Tensor": "a type",
    "torch.nn.parameter.Parameter": "a type",
    "torch.storage.UntypedStorage": torch.uint8,
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": getattr(torch, name) for name in _DTYPES},
    **STAND_INS,
}

# Tensors that are no plain array of numbers, and what they are called.
UNUSUAL = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
}
