"""What makes a generated data set unusable, or may do so: each function spoils one that is in order."""

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from tests.bench.generated.data_sets import DataSet, folders
from tests.bench.generated.nifti import Array, File, put, spacing_of


def spoil(draw: Random, data: DataSet, fault: str) -> None:
    """Do to one of its cases, or to the whole, what that fault does."""
    data.notes = ()
    FAULTS[fault][1](draw, data, fault)


Fault = Callable[[Random, DataSet, str], None]
FAULTS: dict[str, tuple[Callable[[DataSet], bool], Fault]] = {}


def _fault(*names: str, needs: Callable[[DataSet], bool] = lambda data: True) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS.update(dict.fromkeys(names, (needs, function)))
        return function

    return add


def _masks(data: DataSet) -> bool:
    return data.cases[0].mask is not None


def _tables(data: DataSet) -> bool:
    return data.layout == "nnunet" and data.classes > 0 and data.cases[0].subtype is not None


def _several(data: DataSet) -> bool:
    return len(data.cases) > 1


def _write(path: Any, file: File, header: Any = None) -> None:
    path.unlink()
    file.write(path, header)


@_fault("image NaN", "image infinite", "image beyond float32")
def _values(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    voxels = case.image.values
    value = {"image NaN": np.nan, "image infinite": draw.choice((np.inf, -np.inf)), "image beyond float32": 1e300}[name]
    voxels[tuple(draw.randrange(n) for n in voxels.shape)] = value
    dtype = np.float64 if name.endswith("32") else draw.choice((np.float32, np.float64))
    _write(case.image_path, replace(case.image, stored=voxels.astype(dtype), slope=1.0, inter=0.0))
    data.refuse(name, case.image_path)


_DAMAGE = ("empty", "text", "cut", "flipped byte", "header only")


@_fault(*(f"image {damage}" for damage in _DAMAGE))
def _damaged_image(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    _damage(draw, case.image_path, name.removeprefix("image "))
    data.refuse(name, case.image_path)


@_fault(*(f"mask {damage}" for damage in _DAMAGE), needs=_masks)
def _damaged_mask(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    _damage(draw, case.mask_path, name.removeprefix("mask "))
    data.refuse(name, case.mask_path)


def _damage(draw: Random, path: Any, how: str) -> None:
    content = bytearray(path.read_bytes())
    packed = path.name.endswith(".gz")
    path.unlink()
    match how:
        case "empty":
            content = bytearray()
        case "text":
            content = bytearray(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
        case "cut":
            content = content[: draw.randrange(1, len(content) - 8)]
        case "flipped byte" if packed:
            intact = bytes(content)
            while _unpacks(content):  # a few bits of a packed file mean nothing
                content = bytearray(intact)
                content[draw.randrange(20, len(content) - 8)] ^= draw.randint(1, 255)
        case "flipped byte":
            content[:352] = bytes(352)  # zeros for a header, as a torn copy leaves them
        case "header only":
            content = bytearray(gzip.compress(gzip.decompress(content)[:352]) if packed else content[:352])
    path.write_bytes(content)


def _unpacks(content: bytes) -> bool:
    try:
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return False
    return True


@_fault(
    "image colour", "image colour and alpha", "image complex64", "image complex128", "image two volumes", "image 2-D"
)
def _kinds(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    _write(case.image_path, replace(case.image, stored=_of_kind(case.image, name), slope=1.0, inter=0.0))
    data.refuse(name, case.image_path)


@_fault("mask colour", "mask complex64", "mask two volumes", needs=_masks)
def _mask_kinds(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    assert case.mask is not None
    _write(case.mask_path, replace(case.mask, stored=_of_kind(case.mask, name), slope=1.0, inter=0.0))
    data.refuse(name, case.mask_path)


def _of_kind(file: File, name: str) -> Array:
    voxels = file.values.reshape(file.stored.shape[:3])
    match name.partition(" ")[2]:
        case "colour":
            return np.zeros(voxels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        case "colour and alpha":
            return np.zeros(voxels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
        case "two volumes":
            return np.stack([voxels, voxels], -1).astype(np.float32)
        case "2-D":
            return voxels[..., 0].astype(np.float32)
    return voxels.astype(name.partition(" ")[2])


@_fault(
    "image unknown type",
    "image bits",
    "image no voxels",
    "image in micrometres",
    "image affine of zeros",
    "image affine NaN",
    "image intercept NaN",
)
def _headers(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    file = replace(case.image, form="sform")
    header = file.header()
    match name:
        case "image unknown type":
            header["datatype"] = 9999
        case "image bits":
            header["datatype"], header["bitpix"] = 1, 1
        case "image no voxels":
            header["dim"][1] = 0
        case "image in micrometres":
            header["xyzt_units"] = 3
        case "image affine of zeros":
            header["srow_x"] = header["srow_y"] = header["srow_z"] = 0
        case "image affine NaN":
            header["srow_x"][draw.randrange(4)] = np.nan
        case "image intercept NaN":
            header["scl_slope"], header["scl_inter"] = 1, np.nan
    _write(case.image_path, file, header)
    data.refuse(name, case.image_path)


@_fault("mask NaN", "mask label unknown", "mask label fraction", needs=_masks)
def _labels(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    assert case.mask is not None
    voxels = case.mask.values
    value = {"mask NaN": np.nan, "mask label unknown": draw.choice((3, -1, 255, 1e10)), "mask label fraction": 1.5}[
        name
    ]
    voxels[tuple(draw.randrange(n) for n in voxels.shape)] = value
    _write(case.mask_path, replace(case.mask, stored=voxels.astype(np.float32), slope=1.0, inter=0.0))
    data.refuse(name, case.mask_path)


@_fault("mask shape", "mask moved", "mask spacing", "mask rotated", "mask mirrored in its affine", needs=_masks)
def _grids(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    mask, affine = case.mask, np.array(case.image.affine)
    assert mask is not None
    axis, side = draw.randrange(3), min(spacing_of(affine))
    stored = mask.values.reshape(mask.stored.shape[:3]).astype(np.uint8)
    match name:
        case "mask shape":
            stored = np.concatenate([stored, stored.take([-1], axis)], axis)
        case "mask moved":
            affine[axis, 3] += draw.choice((-1, 1)) * draw.uniform(0.2, 30) * side
        case "mask spacing":
            affine[:3, axis] *= draw.choice((0.5, 0.9, 1.1, 2))
        case "mask rotated":
            turn = np.eye(4)
            turn[:2, :2] = [[np.cos(0.15), -np.sin(0.15)], [np.sin(0.15), np.cos(0.15)]]
            affine = turn @ affine
        case _:
            affine[axis, :3] *= -1
            affine[axis, 3] += 7.37 * max(spacing_of(affine))  # a whole number may put it onto the grid after all
    _write(case.mask_path, File(stored, affine))
    data.refuse(name, case.mask_path, case.image_path)


@_fault("image missing", "image dangling link", "image folder", needs=lambda data: _several(data) and _masks(data))
def _gone(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    case.image_path.unlink()
    if name == "image dangling link":
        case.image_path.symlink_to("/nowhere/0123")
    elif name == "image folder":
        case.image_path.mkdir()
    data.refuse(name, case.image_path, case.mask_path, case.name, must=None if name == "image missing" else True)
    data.cases.remove(case)


@_fault("mask missing", needs=lambda data: _several(data) and _masks(data))
def _no_mask(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    case.mask_path.unlink()
    data.refuse(name, case.image_path)


@_fault("image of another ending")
def _wrong_ending(draw: Random, data: DataSet, name: str) -> None:
    """A packed file called .nii, or a plain one called .nii.gz: read or refused."""
    case = draw.choice(data.cases)
    content = case.image_path.read_bytes()
    case.image_path.unlink()
    packed = case.image_path.name.endswith(".gz")
    case.image_path.write_bytes(gzip.decompress(content) if packed else gzip.compress(content))
    data.refuse(name, case.image_path, must=None, said=False)


@_fault("second channel", needs=lambda data: data.layout == "nnunet")
def _second_channel(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    path = case.image_path.with_name(case.image_path.name.replace("_0000.nii", "_0001.nii"))
    case.image.write(path)
    data.refuse(name, path, path.name, must=None)


@_fault("case twice")
def _twice(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    path = case.image_path
    other = path.with_name(path.name.removesuffix(".gz") if path.name.endswith(".gz") else f"{path.name}.gz")
    put(other, case.image.content())
    data.refuse(name, path, other)


@_fault("mask twice", needs=_masks)
def _mask_twice(draw: Random, data: DataSet, name: str) -> None:
    """Another mask beside it, by the other ending: which of the two is the truth?"""
    case = draw.choice(data.cases)
    path = case.mask_path
    assert case.mask is not None
    other = path.with_name(path.name.removesuffix(".gz") if path.name.endswith(".gz") else f"{path.name}.gz")
    put(other, replace(case.mask, stored=np.zeros_like(case.mask.stored), slope=1.0, inter=0.0).content())
    data.refuse(name, path, other)


@_fault("no folder", "folder is a file", "folder empty", "other split only")
def _no_cases(draw: Random, data: DataSet, name: str) -> None:
    before = data.root
    data.root = before / "other"
    if name == "folder is a file":
        data.root.write_text("x")
    elif name == "folder empty":
        data.root.mkdir()
    elif name == "other split only":
        data.root = before
        data.split = draw.choice([split for split in ("train", "validation", "test") if split != data.split])
    data.refuse(name, data.root)


@_fault("name no UTF-8")
def _bytes_in_names(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    for path in (case.image_path, case.mask_path):
        if path.exists():
            path.rename(path.with_name(os.fsdecode(b"\xff\xe9") + path.name))
    data.refuse(name, case.image_path.parent, must=None, said=False)
    data.cases.clear()


@_fault("class out of range", needs=lambda data: data.classes > 0)
def _out_of_range(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    if data.layout == "quiz":
        folder = case.image_path.parent
        other = folder.with_name(f"subtype{data.classes + draw.randrange(3)}")
        folder.rename(other)
        data.refuse(name, other)
    else:
        _table(data, [(c.name, data.classes if c is case else 0) for c in data.cases])
        data.refuse(name, data.root, case.name)


@_fault("class of a case missing", needs=lambda data: _tables(data) and _several(data))
def _class_missing(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    _table(data, [(c.name, c.subtype) for c in data.cases if c is not case])
    data.refuse(name, case.name, must=None)
    case.subtype = None


@_fault(
    "class contradicted",
    "class no number",
    "class blank",
    "class table without columns",
    "class table no text",
    needs=_tables,
)
def _bad_tables(draw: Random, data: DataSet, name: str) -> None:
    case = draw.choice(data.cases)
    rows: list[tuple[str, object]] = [(c.name, c.subtype) for c in data.cases]
    names: tuple[object, ...] = (data.root / "classes.csv", "no table gives the cases their classes")
    match name:
        case "class contradicted":
            rows.append((case.name, (case.subtype or 0) ^ 1))
        case "class no number":
            rows = [(n, draw.choice(("high", "1.5", "nan", "1e999", "0x1")) if n == case.name else v) for n, v in rows]
        case "class blank":
            rows, names = [(n, "" if n == case.name else v) for n, v in rows], (*names, case.name)
    _table(data, rows)
    path = data.root / "classes.csv"
    if name == "class table without columns":
        path.write_text("\n".join(f"{c.name},{c.subtype}" for c in data.cases) + "\n", encoding="utf-8")
        names = (*names, *(c.name for c in data.cases))
    elif name == "class table no text":
        path.write_bytes(b"PK\x03\x04" + bytes(range(256)))
        names = (*names, *(c.name for c in data.cases))
    data.refuse(name, *names, must=None if "table" in name or name == "class blank" else True)
    if data.refused is None:
        for each in data.cases:
            each.subtype = each.subtype if name == "class blank" and each is not case else None


def _table(data: DataSet, rows: list[tuple[str, Any]]) -> None:
    for path in (*data.root.glob("*.csv"), *data.root.glob("*.json")):
        path.unlink()
    quoted = [(name.replace('"', '""'), value) for name, value in rows]
    text = "Names,Subtype\n" + "".join(f'"{name}",{value}\n' for name, value in quoted)
    (data.root / "classes.csv").write_text(text, encoding="utf-8")


@_fault("folder of no class", needs=lambda data: data.layout == "quiz" and data.classes > 0)
def _no_class(draw: Random, data: DataSet, name: str) -> None:
    """Cases right in the split's folder, or in a folder whose name holds no number: they have no class."""
    case = draw.choice(data.cases)
    home = folders(data, case.subtype)[0].parent / draw.choice((".", "subtype2a", "subtype"))
    home.mkdir(exist_ok=True)
    for path in (case.image_path, case.mask_path):
        if path.exists():
            path.rename(home / path.name)
    case.image_path, case.mask_path = home / case.image_path.name, home / case.mask_path.name
    case.subtype = None
    none = ["no table gives the cases their classes"] if all(each.subtype is None for each in data.cases) else []
    data.refuse(name, case.name, *none, must=None)
