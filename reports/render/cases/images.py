"""The images of a page's cases, as who makes the page hands them over: reading files is not this package's business."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TRUTH, BASELINE, VARIANT, DIFFERENCE = MASKS = ("truth", "baseline", "variant", "difference")


@dataclass(frozen=True, kw_only=True)
class PackedCase:
    """Images of a case as gzipped NIfTI files of 8 bits on one grid, without any word of the files they came from.

    Attributes:
        channels: the image of each channel by its name; the first is always shown.
        masks: labels by what they are, one of `MASKS`; the difference is 1 where the variant alone has a label, 2 where
            the baseline alone has, 3 where both have another one.
        focus_mm: the point that is shown first, x to the right, y to the front, z up.
        note: what part of the volume it is, and how fine, in words.
    """

    case: str
    channels: Mapping[str, bytes]
    masks: Mapping[str, bytes]
    focus_mm: tuple[float, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class MissingCase:
    """A case that cannot be shown, and why, in words without paths."""

    case: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CaseImages:
    """The images of a page.

    Attributes:
        packs: in the order of the rows; no more are asked for once the page is full.
        labels: names of the values in masks.
        max_bytes: of the whole page.
    """

    packs: Iterable[PackedCase | MissingCase]
    labels: Mapping[int, str]
    max_bytes: int
