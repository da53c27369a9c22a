"""What must hold of an ONNX file before anything works on it."""

from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from models.errors import one_line, refusal, some

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

OLDEST_OPSET = 10  # the first whose Slice takes its bounds as inputs
_MOST_BYTES = 2**31 - 1  # what protobuf can hold, weights included
_STANDARD = ("", "ai.onnx")
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_NUMBER_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")  # where they lie one by one
_SIZES = {
    "BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2, "FLOAT16": 2, "BFLOAT16": 2,
    "INT32": 4, "UINT32": 4, "FLOAT": 4, "INT64": 8, "UINT64": 8, "DOUBLE": 8,
}  # fmt: skip
_EXPORT = "export the network again: torch.onnx.export(network, (x,), FILE, dynamo=True)"


def read_checked(path: Path) -> "ModelProto":
    """Parse an ONNX file, its weights in memory, external ones too; nothing in it is run.

    Raises:
        CheckpointError: it is damaged or too large; its tensors lie about their sizes; it has operators that are not
            ONNX's own, functions or control flow; its external data do not lie beside it, in its own folder.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    if path.stat().st_size > _MOST_BYTES:
        raise refusal(path, "is larger than the 2 GiB that an ONNX file can hold", "keep its weights in external data")
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's errors have no common base
        raise refusal(path, f"is a damaged ONNX file ({one_line(error)})", "copy or download it again") from None
    _check_operators(path, model)
    tensors = list(_tensors(model))
    for tensor in tensors:
        _check_size(path, tensor)
    _check_external(path, [tensor for tensor in tensors if _is_external(tensor)])
    try:
        onnx.checker.check_model(str(path))
        for tensor in tensors:
            if _is_external(tensor):
                load_external_data_for_tensor(tensor, str(path.parent))
    except Exception as error:
        raise refusal(path, f"is no valid ONNX model ({one_line(error)})", _EXPORT) from None
    return model


def _check_operators(path: Path, model: Any) -> None:
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    foreign = sorted({node.domain for node in model.graph.node if node.domain not in _STANDARD})
    if foreign:
        problem = f"has operators of {some(foreign)}, which are not ONNX's own and run in one runtime only"
        raise refusal(path, problem, _EXPORT)
    if model.functions:
        named = some([function.name for function in model.functions])
        raise refusal(path, f"has functions of its own ({named})", "inline them with onnx.inliner, or " + _EXPORT)
    loops = sorted({node.op_type for node in model.graph.node if node.op_type in _CONTROL_FLOW or _subgraphs(node)})
    if loops:
        raise refusal(path, f"has control flow ({some(loops)}), so that its cost depends on the data", _EXPORT)
    opset = max((opsets.get(domain, 0) for domain in _STANDARD), default=0)
    if opset < OLDEST_OPSET:
        convert = "convert it with onnx.version_converter.convert_version"
        raise refusal(path, f"is of ONNX opset {opset}; {OLDEST_OPSET} is the oldest that is read", convert)
    if model.graph.sparse_initializer:
        raise refusal(path, "has sparse weights", "store them densely")


def _subgraphs(node: Any) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _tensors(model: Any) -> "Iterator[TensorProto]":
    """Weights, and the constants in nodes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _is_external(tensor: Any) -> bool:
    import onnx

    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _external(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_external(path: Path, tensors: list[Any]) -> None:
    """External data are plain files below the folder of `path`, no tensor reaches past their end, none is read twice.

    ONNX's own reader checks much of this too; but not in every version, and not that many tensors name the same bytes.
    """
    folder, read = path.parent.resolve(), Counter[Path]()
    for tensor in tensors:
        entries = _external(tensor)
        place = entries.get("location", "")
        file = folder / place
        if not place or _leads_out(place) or file.resolve() != file:
            problem = f"names external data outside its own folder for {tensor.name[:80]}: {place!r}"
            raise refusal(path, problem, "do not use it; where you trust its source, " + _EXPORT)
        if not file.is_file():
            raise refusal(path, f"lacks its external data {place}", "put that file beside it, as it was exported")
        offset, length = (
            _decimal(entries.get("offset", "0")),
            _decimal(entries.get("length", str(_bytes_needed(tensor)))),
        )
        read[file] += length
        if offset < 0 or length != _bytes_needed(tensor) or offset + length > file.stat().st_size:
            problem = f"claims {length} bytes at {offset} of {place} for {tensor.name[:80]} {list(tensor.dims)}"
            raise refusal(path, f"{problem}, which has {file.stat().st_size}", "copy both files again")
    for file, length in read.items():
        if length > file.stat().st_size:
            raise refusal(path, f"reads parts of {file.name} more than once", _EXPORT)
    if sum(read.values()) + path.stat().st_size > _MOST_BYTES:
        raise refusal(path, "has more than 2 GiB of weights", "give a smaller network")


def _leads_out(place: str) -> bool:
    posix, windows = PurePosixPath(place), PureWindowsPath(place)
    return posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts) or "\0" in place


def _decimal(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def _check_size(path: Path, tensor: Any) -> None:
    """A tensor has as many numbers as its shape needs: what is written is what will be allocated."""
    from onnx import TensorProto

    if _bytes_needed(tensor) < 0:
        kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else "?"
        raise refusal(
            path, f"has {tensor.name[:80]} {list(tensor.dims)[:8]} of type {kind}, which is not read", _EXPORT
        )
    if _is_external(tensor):
        return
    numbers = max(len(getattr(tensor, name)) for name in _NUMBER_FIELDS)
    stored = numbers * _bytes_needed(tensor) // max(prod(tensor.dims), 1) if numbers else len(tensor.raw_data)
    if stored != _bytes_needed(tensor):
        problem = f"claims {list(tensor.dims)[:8]} for {tensor.name[:80]} and stores {stored} bytes"
        raise refusal(path, problem, "copy or download the file again")


def _bytes_needed(tensor: Any) -> int:
    """What its shape needs; less than 0 where shape or type make no sense."""
    from onnx import TensorProto

    size = {getattr(TensorProto, name): size for name, size in _SIZES.items()}.get(tensor.data_type)
    return -1 if size is None or any(side < 0 for side in tensor.dims) else prod(tensor.dims) * size
