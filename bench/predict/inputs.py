"""The cases to predict: files, folders of images, data sets in the layouts that `bench run` knows, or series."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.choices import SPLITS
from bench.data import layouts
from bench.data.dicom.files import class_of, is_image, is_named, is_series, is_whole_series
from bench.data.formats import FORMATS, ending_of, files_of, mask_ending, stem_of
from bench.data.layouts import CaseFiles
from bench.errors import InputError
from bench.predict.journal import NAME
from bench.worker.lines import ImageFile
from bench.worker.messages import BatchCase
from models.errors import some
from reports.formatting import count

_EXPECTED = (
    "give an image, a folder of images, a data set in the quiz, nnU-Net raw or Decathlon layout, or a JSON file that "
    "lists the cases"
)


def list_cases(
    inputs: Sequence[Path], split: str | None, note: Callable[[str], None] = lambda _: None
) -> list[CaseFiles]:
    """All cases of all inputs, sorted by name; of a data set those of `split`, or of every split that it has.

    A file is a case, and so is each image in a folder; but files called ``NAME_0000``, ``NAME_0001`` and so on are
    the channels of one. A case whose channels are not all there is among them, with its `fault`. Nothing is opened.
    `note` gets a line for each folder in which something is passed by.

    Raises:
        InputError: an input that is none, or two cases of one name.
    """
    files = {path for path in inputs if path.is_file() and path.suffix != ".json"}
    folders = {path: _of(path, split) for path in dict.fromkeys(inputs) if path not in files}
    listed = [*_of_files(files), *(case for cases, _ in folders.values() for case in cases)]
    # The truth is not looked at.
    cases = sorted((replace(case, mask_path=None, subtype=None) for case in listed), key=lambda case: case.name)
    try:
        layouts.refuse_duplicates(cases)
    except InputError as error:
        raise InputError(f"{error}{'' if split else ', or choose one of several splits with --split'}") from None
    for path, (_, splits) in folders.items():
        if left := _left_out(path.absolute(), splits, listed):
            was = "was" if len(left) == 1 else "were"
            note(
                f"{path}: {count(len(left), 'volume')} of no case {was} left out ({some([*map(str, left)])}); "
                "name what is to be predicted as an input of its own"
            )
    return cases


def batch_case(case: CaseFiles) -> BatchCase:
    """The case as a worker gets it, with its files as they are now."""
    images = tuple(map(image_file, case.image_paths))
    return BatchCase(case.name, images, f"{case.name}{mask_ending(case.image_path)}")


def refuse_folder(out: Path, cases: Sequence[CaseFiles]) -> None:
    """Refuse to write masks where the images lie: they would be cases of the next call, or take an image's place.

    Raises:
        InputError: `out` holds an image.
    """
    folder = out.resolve()
    folders = {each for case in cases for path in case.image_paths for each in (path, path.parent)}
    if any(each.resolve() == folder for each in folders):
        raise InputError(f"{out}: holds the images that are predicted; choose another --out")


def _of_files(files: Collection[Path]) -> Iterator[CaseFiles]:
    by_folder: dict[Path, set[str]] = {}
    series = dict.fromkeys(path.absolute() for path in files if is_whole_series(path))
    yield from (CaseFiles(stem_of(path.name), (path,), None, None) for path in series)
    for path in files:
        if path.absolute() in series:
            continue
        if is_named(path.name):
            raise InputError(f"{path}: holds no whole DICOM image; give the folder of its series")
        if not ending_of(path.name):
            raise InputError(f"{path}: its name ends in none of {', '.join(FORMATS)}; {_EXPECTED}")
        by_folder.setdefault(path.absolute().parent, set()).add(path.name)
    for folder, names in by_folder.items():
        yield from layouts.grouped(folder, names)


def _of(path: Path, split: str | None) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """The cases of a folder, or of a list in JSON, and the splits that they are of; none where it is no data set."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; {_EXPECTED}")
    path = path.absolute()
    if is_series(path):
        return [_series(path)], ()
    if split is not None or not path.is_dir():
        splits = (split,) if split else SPLITS
        return _of_data_set(path, splits) or layouts.listed(path, splits[0])[1], splits
    names = {each.name for each in path.iterdir()}
    plain = any(map(ending_of, names)) and not (path / "dataset.json").is_file()
    if not plain and (cases := _of_data_set(path, SPLITS)):
        return cases, SPLITS
    series = (_series(path / name) for name in sorted(names) if is_series(path / name))
    if not (cases := [*layouts.grouped(path, names), *series]):
        raise InputError(f"{path}: holds no image; {_EXPECTED}")
    return cases, ()


def _left_out(root: Path, splits: Sequence[str], cases: Sequence[CaseFiles]) -> list[Path]:
    """Volumes of no case, relative to `root`: of a data set in the folders of its splits, else wherever below it.

    Masks of other calls are none of them.
    """
    if splits or not root.is_dir():
        left = {path for split in splits for path in layouts.unused_volumes(root, split, cases)}
    else:
        left = {*layouts.unused_below(root, [root], cases), *_series_below(root, cases)}
    return sorted(path for path in left if not any((root / folder / NAME).is_file() for folder in path.parents))


def _series_below(root: Path, cases: Sequence[CaseFiles]) -> Iterator[Path]:
    """Folders below `root` that are no case and whose first file is an image of a series; the tree may be large."""
    used = {path for case in cases for path in case.image_paths}
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        folder, names = Path(place), sorted(name for name in files if not name.startswith("."))
        if names and folder not in used and _is_slice(folder / names[0]):
            yield folder.relative_to(root)


def _is_slice(path: Path) -> bool:
    try:
        return is_image(class_of(path))
    except OSError:
        return False


def _of_data_set(path: Path, splits: Iterable[str]) -> list[CaseFiles]:
    """Of these splits in one of the layouts; empty where there are none."""
    listed = (layouts.in_layout(path, split) for split in splits)
    return [case for in_split in listed if in_split is not None for case in in_split[1]]


def _series(folder: Path) -> CaseFiles:
    return CaseFiles(folder.name, (folder,), None, None)


def image_file(path: Path) -> ImageFile:
    """An image as it is now."""
    try:
        parts = [each.stat() for each in _files(path)]
    except OSError:
        return ImageFile(str(path), None, None)
    latest = max((part.st_mtime_ns for part in parts), default=None)
    return ImageFile(str(path), sum(part.st_size for part in parts), latest)


def _files(path: Path) -> Sequence[Path]:
    """All files of an image: those in a folder, or its own and that of its voxels beside it."""
    if path.is_dir():
        return [each for each in path.iterdir() if each.is_file()]
    try:
        return files_of(path)
    except InputError:
        return (path,)
