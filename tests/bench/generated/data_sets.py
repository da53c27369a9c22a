"""Generated data sets in order: every way in which a usable one is written. What makes one unusable is in `faults`."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np

from tests.bench.generated.nifti import FORMS, Array, File, affine_of_none, draw_affine, put, spacing_of, turned

NAMES = (
    "quiz_0_{}",
    "Fall {} a",
    "näme_{}",
    "case_{}_0000",
    "100% {}",
    "{}",
    "a'b\"{}",
    "#{}",
    "-{}",
    "病例{}",
    "CASE.{}",
)
IMAGE_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
MASK_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
SPLITS = {"train": "Tr", "validation": "Val", "test": "Ts"}
LEVELS = np.array([0.40, 0.65, 0.85])  # of the window: background, pancreas and lesion, as the networks here know them


@dataclass
class Case:
    """A case as written, and what it should be taken for: `truth` lies on the image's grid."""

    name: str
    image: File
    image_path: Path
    mask: File | None
    mask_path: Path
    truth: Array | None
    subtype: int | None

    @property
    def intensities(self) -> Array:
        """HU ``[X, Y, Z]``."""
        return self.image.values.reshape(self.image.stored.shape[:3]).astype(np.float32)


@dataclass
class DataSet:
    """A data set on disk.

    Attributes:
        classes: of a case, that the network tells apart.
        numbers: the label that each value in the masks stands for.
        kind: what is wrong with it; "in order" where nothing is.
        refused: whether it must be; None where both will do.
        names: of what is wrong: one of them must stand in the refusal and, with `said`, in what an accepted one prints.
        notes: words that the report must have where it is accepted.
    """

    root: Path
    layout: str
    split: str
    window: tuple[float, float]
    classes: int
    numbers: tuple[int, int, int] = (0, 1, 2)
    cases: list[Case] = field(default_factory=list)
    kind: str = "in order"
    refused: bool | None = False
    names: tuple[str, ...] = ()
    said: bool = True
    notes: tuple[str, ...] = ()

    def refuse(self, kind: str, *names: object, must: bool | None = True, said: bool = True) -> None:
        """Say that it must be refused, or may be, and what is to be named."""
        self.kind, self.refused, self.names, self.said = kind, must, tuple(map(str, names)), said


def write_data_set(draw: Random, root: Path, classes: int) -> DataSet:
    """Write a data set that is in order, for a network of so many `classes` of a case."""
    window = (draw.choice((-1000.0, -1000.0, -160.0)), draw.choice((1000.0, 240.0)))
    data = DataSet(root, draw.choice(("quiz", "nnunet")), draw.choice(list(SPLITS)), window, classes)
    if data.layout == "nnunet" and draw.random() < 0.4:
        _write_labels(draw, data)
    has_masks, has_classes = draw.random() < 0.9, data.layout == "quiz" or draw.random() < 0.7
    pattern, affine = draw.choice(NAMES), draw_affine(draw)
    for number in range(draw.choice((1, 2, 2, 3))):
        if draw.random() < 0.3:
            affine = draw_affine(draw)
        subtype = draw.randrange(max(classes, 1)) if has_classes else None
        data.cases.append(_write_case(draw, data, pattern.format(number), affine, subtype, has_masks))
    if data.layout == "nnunet" and has_classes:
        write_classes(draw, data)
    if len({orientation(case.image.affine) for case in data.cases}) > 1:
        data.notes = (*data.notes, "orientation")
    if draw.random() < 0.2:
        _write_strays(data)
    return data


def orientation(affine: Array) -> tuple[int, ...]:
    """The world's axis, from 1, that each of the array's runs along, negative where it runs the other way."""
    rows = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(0)
    return tuple(int((row + 1) * np.sign(affine[row, axis])) for axis, row in enumerate(rows))


def folders(data: DataSet, subtype: int | None) -> tuple[Path, Path]:
    """Where images and masks of that class lie."""
    if data.layout == "quiz":
        folder = data.root / data.split / f"subtype{subtype}"
        return folder, folder
    return data.root / f"images{SPLITS[data.split]}", data.root / f"labels{SPLITS[data.split]}"


def _write_case(draw: Random, data: DataSet, name: str, affine: Array, subtype: int | None, has_mask: bool) -> Case:
    images, masks = folders(data, subtype)
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    ending, mask_ending = draw.choice((".nii.gz", ".nii")), draw.choice((".nii.gz", ".nii"))
    truth = _truth(draw, tuple(1 if draw.random() < 0.04 else draw.randint(6, 24) for _ in range(3)))
    image = _image(draw, truth, affine, data.window)
    data.notes += ("qform",) if image.form == "other qform" else ()
    if image.pixdim is not None and not np.allclose([mm or 1 for mm in image.pixdim], spacing_of(affine), rtol=1e-4):
        data.notes = (*data.notes, "pixdim")
    mask = _mask(draw, np.array(data.numbers)[truth], image.affine) if has_mask else None
    case = Case(
        name, image, images / f"{name}_0000{ending}", mask, masks / f"{name}{mask_ending}",
        truth if has_mask else None, subtype,
    )  # fmt: skip
    _place(draw, data.root, case.image_path, image)
    if mask is not None:
        _place(draw, data.root, case.mask_path, mask)
    return case


def _place(draw: Random, root: Path, path: Path, file: File) -> None:
    """Write a file; now and then into a store by its hash, and a link to it, as download caches have them."""
    if draw.random() < 0.9:
        file.write(path)
        return
    store = root / ".store" / ("x.gz" if path.name.endswith(".gz") else "x")
    store.parent.mkdir(exist_ok=True)
    file.write(store)
    path.symlink_to(store.rename(store.with_name(f"{draw.getrandbits(64):016x}")))


def _truth(draw: Random, shape: tuple[int, ...]) -> Array:
    """An ellipsoid with another in it; empty now and then."""
    truth, where = np.zeros(shape, np.uint8), np.indices(shape)
    centre, radius = [draw.uniform(0.2, 0.8) * n for n in shape], [draw.uniform(0.15, 0.5) * n + 0.5 for n in shape]
    distance = sum(((w - c) / r) ** 2 for w, c, r in zip(where, centre, radius, strict=True))
    if draw.random() < 0.9:
        truth[distance <= 1] = 1
        truth[distance <= draw.choice((0.0, 0.2, 0.4))] = 2
    return truth


def _image(draw: Random, truth: Array, affine: Array, window: tuple[float, float]) -> File:
    """What a scanner would have made of that truth, in some type, with some slope and intercept."""
    random = np.random.default_rng(draw.getrandbits(32))
    moved = np.roll(truth, (draw.randrange(3), draw.randrange(2)), (0, 1))  # so that the network is not always right
    hu = window[0] + (LEVELS[moved] + random.normal(0, 0.03, truth.shape)) * (window[1] - window[0])
    if draw.random() < 0.05:
        hu = np.full(truth.shape, draw.choice((-1024.0, 0.0, 40.0)))
    dtype = np.dtype(draw.choice(IMAGE_TYPES))
    slope, inter = draw.choice(((1.0, 0.0), (0.0, 0.0), (2.5, -700.0), (-1.5, 100.0), (float("nan"), 0.0)))
    if dtype.kind in "iu" and (dtype.itemsize == 1 or dtype.kind == "u" or draw.random() < 0.2):
        lowest, highest = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        span = min(highest - lowest, 2.0**40) / 4
        slope = float(np.float32(2 * (window[1] - window[0]) / span))
        inter = float(np.float32(window[0] - slope * max(lowest, -span)))
    scaled = (hu - inter) / slope if np.isfinite(slope) and slope else hu
    if dtype.kind in "iu":
        scaled = np.rint(scaled).clip(float(np.iinfo(dtype).min), min(float(np.iinfo(dtype).max), 2.0**62))
    pixdim = None
    form = draw.choice(FORMS)
    if form == "none":
        affine = affine_of_none(spacing_of(affine), truth.shape)
    if form in ("sform", "other qform") and draw.random() < 0.15:
        x, y, z = spacing_of(affine)
        pixdim = draw.choice(((x, y, z * 2.5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    stored = scaled.astype(dtype).reshape(truth.shape + (1,) * draw.choice((0, 0, 0, 0, 1, 2)))
    version, endian = draw.choice((1, 1, 1, 2)), draw.choice("<<<>")
    return File(stored, affine, 0.0 if slope != slope else slope, inter, form, pixdim, version, endian).as_read()


def _mask(draw: Random, truth: Array, affine: Array) -> File:
    """The truth in some type, on the image's grid or on the same one with its axes turned."""
    dtype = np.dtype(draw.choice(MASK_TYPES))
    slope, inter = draw.choice(((1.0, 0.0), (0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (-1.0, 2.0), (1.0, -1.0)))
    scaled = (truth - inter) / (slope or 1.0)
    if dtype.kind == "f" and draw.random() < 0.5:
        scaled = scaled + 1.52587890625e-05
    stored = scaled.astype(dtype).reshape(truth.shape + (1,) * draw.choice((0, 0, 0, 0, 1)))
    version, endian = draw.choice((1, 1, 1, 2)), draw.choice("<<<>")
    mask = File(stored, affine, slope, inter, draw.choice(("sform", "both", "qform")), None, version, endian)
    match draw.choice(("same", "same", "turned", "rounded")):
        case "turned":
            mask = turned(draw, mask)
        case "rounded":
            mask = replace(mask, affine=affine * (1 + draw.uniform(-2e-7, 2e-7)))
    exact = np.allclose(mask.as_read().affine, mask.affine, rtol=1e-6, atol=1e-5)
    return mask if exact else replace(mask, form="sform")  # a quaternion may lose a hundredth of a millimetre


def _write_labels(draw: Random, data: DataSet) -> None:
    """nnU-Net's dataset.json, which may number lesion and pancreas the other way round."""
    data.numbers = draw.choice(((0, 1, 2), (0, 2, 1)))  # also its own inverse
    pancreas, lesion = draw.choice((("pancreas", "lesion"), ("Pancreas", "tumor"), ("normal_pancreas", "PDAC")))
    names = {pancreas: data.numbers[1], lesion: data.numbers[2]}
    document = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0} | dict(sorted(names.items())),
        "numTraining": 3, "file_ending": ".nii.gz",
    }  # fmt: skip
    data.root.mkdir(parents=True, exist_ok=True)
    (data.root / "dataset.json").write_text(json.dumps(document), encoding="utf-8")


def write_classes(draw: Random, data: DataSet) -> None:
    """A class table of one of the kinds that are in use."""
    endings = draw.choice(("", "", ".nii.gz", "_0000.nii.gz"))
    rows = [(case.name + endings, case.subtype) for case in data.cases]
    draw.shuffle(rows)
    if draw.random() < 0.2:
        document = {name: value if draw.random() < 0.8 else str(value) for name, value in rows}
        (data.root / "subtype_mapping.json").write_text(json.dumps(document), encoding="utf-8")
        return
    separator = draw.choice(",,;\t")
    columns = [draw.choice(("Names", "name", "case_id", "ID")), draw.choice(("Subtype", "class", "label"))]
    swap, quote = draw.random() < 0.3, draw.random() < 0.3
    lines = []
    for pair in (columns, *([name, f"{value}{draw.choice(('', '', '.0'))}"] for name, value in rows)):
        cells = [cell.replace('"', '""') for cell in pair]
        cells = [f'"{cell}"' if quote or '"' in cell else cell for cell in cells]
        lines.append(separator.join(reversed(cells) if swap else cells))
    blank = draw.choice(("", "", "\n", separator + "\n", "  \n"))
    text = draw.choice(("\n", "\r\n")).join(lines) + "\n" + blank
    encoding = draw.choice(("utf-8", "utf-8", "utf-8-sig"))
    (data.root / draw.choice(("classes.csv", "Subtypes 2.csv"))).write_bytes(text.encode(encoding))


def _write_strays(data: DataSet) -> None:
    """What lies about in real folders and is no case."""
    images, _ = folders(data, 0)
    images.mkdir(parents=True, exist_ok=True)
    put(images / "._case_0000.nii.gz", b"of a Mac")
    (images / ".DS_Store").write_bytes(b"\0")
    (images / "README.txt").write_text("x")
    (images / "preview.png").write_bytes(b"\x89PNG")
