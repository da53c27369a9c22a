"""What the headers of a run's files say that a reader of its report should know."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.class_table import ClassTables
from bench.data.layouts import CaseFiles
from bench.data.space import TOLERANCE, Space
from bench.data.volume import read_header, read_space
from reports.records.record import Case

_NAMED = 3  # cases or files that a remark names
_NEAR = 0.1  # of a voxel's shortest side: what the rounding of a quaternion to float32 may move


@dataclass(frozen=True, kw_only=True)
class _Header:
    case: str
    space: Space
    pixdim_mm: tuple[float, ...]
    placed: bool  # by an sform or a qform
    forms_apart_mm: float
    mask_turned: bool

    @classmethod
    def of(cls, case: CaseFiles) -> "_Header":
        nifti = read_header(case.image_path)
        space = Space.of(nifti, case.image_path)
        return cls(
            case=case.name,
            space=space,
            pixdim_mm=tuple(float(mm) for mm in nifti.header.get_zooms()),
            placed=bool(nifti.header["sform_code"] or nifti.header["qform_code"]),
            forms_apart_mm=_forms_apart_mm(nifti, space),
            mask_turned=case.mask_path is not None and not read_space(case.mask_path).lies_on(space),
        )


def _forms_apart_mm(nifti: Any, space: Space) -> float:
    """0 where the header has only one of sform and qform, or a quaternion that is none."""
    if not (nifti.header["sform_code"] and nifti.header["qform_code"]):
        return 0.0
    try:
        return space.distance_mm(Space(space.shape, nifti.get_qform()))
    except ValueError:
        return 0.0


def remarks_on(cases: Iterable[CaseFiles], as_stored: bool) -> tuple[str, ...]:
    """One line each, of images and masks that `bench.data.cases.check_cases` has let pass.

    `as_stored` says that the network gets the axes as the files have them.
    """
    headers = [_Header.of(case) for case in cases]
    return (
        *_spacings(headers),
        *_forms(headers),
        *_unplaced(headers),
        *_sheared(headers),
        *_turned_masks(headers),
        *(_orientations(headers) if as_stored else ()),
    )


def remark_on_unused(files: Sequence[Path]) -> Iterator[str]:
    """A line about volumes beside the cases that belong to none of them."""
    if files:
        names = listed(list(map(str, files)))
        yield f"volumes in the split's folders that belong to no case are not used: {names} ({len(files)})"


def remarks_on_labels(cases: Sequence[Case], labels: Mapping[str, int]) -> Iterator[str]:
    """Lines about masks that are all background, and about labels, by name, that no mask holds."""
    masks = {case.name: set(case.mask_labels) - {0} for case in cases if case.mask_labels is not None}
    if not masks:
        return
    empty = [name for name, held in masks.items() if not held]
    if empty:
        yield f"{len(empty)} of {len(masks)} masks hold background alone ({listed(empty)})"
    present = set().union(*masks.values())
    absent = [f"{value} {name}" for name, value in labels.items() if value not in {0, *present}]
    if absent and present:
        yield f"no mask holds {listed(absent)}: nothing of it can be lost in these cases"


def remarks_on_classes(cases: Mapping[str, int | None], tables: ClassTables) -> Iterator[str]:
    """A line about cases that have no class; `tables` are those of their folder."""
    without = [name for name, value in cases.items() if value is None]
    if not without:
        return
    if not tables.files and len(without) == len(cases):
        hint = f" ({tables.unread[0].name} is not read: save it as CSV)" if tables.unread else ""
        yield f"no table gives the cases their classes{hint}; macro-F1 is not measured"
        return
    files = ", ".join(path.name for path in tables.files) or "names of folders"
    similar = tables.similar(without)
    hint = f"; {similar[0]!r} there is perhaps {similar[1]}, which must be written in full" if similar else ""
    yield (
        f"{files}: no class for {len(without)} of {len(cases)} cases ({listed(without)}), "
        f"which do not count in macro-F1{hint}"
    )


def _spacings(headers: Sequence[_Header]) -> Iterator[str]:
    differing = [h for h in headers if not np.allclose(h.pixdim_mm, h.space.spacing_mm, rtol=TOLERANCE)]
    if differing:
        first = differing[0]
        yield (
            f"pixdim and affine give different spacings in {_named(differing, headers)}: {_by(first.pixdim_mm)} and "
            f"{_by(first.space.spacing_mm)} mm in {first.case}; the affine's is used everywhere"
        )


def _forms(headers: Sequence[_Header]) -> Iterator[str]:
    differing = [h for h in headers if h.forms_apart_mm > _NEAR * min(h.space.spacing_mm)]
    if differing:
        most = max(h.forms_apart_mm for h in differing)
        yield (
            f"sform and qform differ in {_named(differing, headers)}, by up to {most:.3g} mm; the sform is in force "
            "here, and programs that read by ITK may take the qform"
        )


def _unplaced(headers: Sequence[_Header]) -> Iterator[str]:
    without = [h for h in headers if not h.placed]
    if without:
        yield (
            f"the orientation is not known in {_named(without, headers)}, whose sform and qform codes are 0; nibabel's "
            f"{without[0].space.axes} is taken"
        )


def _sheared(headers: Sequence[_Header]) -> Iterator[str]:
    sheared = [h for h in headers if h.space.sheared]
    if sheared:
        yield (
            f"the axes are not perpendicular in {_named(sheared, headers)}; surface distances are taken as if they "
            "were, and ITK does not read such files"
        )


def _turned_masks(headers: Sequence[_Header]) -> Iterator[str]:
    masks = [h for h in headers if h.mask_turned]
    if masks:
        yield (
            f"the mask's axes have another order or sign than the image's in {_named(masks, headers)}; "
            "it is put onto the image's grid"
        )


def _orientations(headers: Sequence[_Header]) -> Iterator[str]:
    by_axes: dict[str, list[_Header]] = {}
    for header in headers:
        by_axes.setdefault(header.space.axes, []).append(header)
    if len(by_axes) > 1:
        which = ", ".join(f"{axes} in {_named(those, headers)}" for axes, those in sorted(by_axes.items()))
        yield f"orientations differ: {which}; the network gets the axes as they are stored"


def _named(some: Sequence[_Header], among: Sequence[_Header]) -> str:
    """``2 of 36 cases (a, b)``"""
    return f"{len(some)} of {len(among)} cases ({listed([header.case for header in some])})"


def listed(names: Sequence[str]) -> str:
    """``a, b, c, ...``: as many as a remark names."""
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
