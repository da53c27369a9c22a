"""What a network is for: its channels, the labels in masks, the structures that are scored, and the classes of a case."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TOLERANCE_MM = 2.0
"""Of surface distances where nothing else is said: what the Medical Segmentation Decathlon's and FLARE's tables give
most often (Antonelli et al. 2022; Ma et al. 2022)."""
MOST_LABEL = 255  # masks are written in 8 bits


class TaskError(ValueError):
    """A task contradicts itself, or what the network or the masks say. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A named set of labels that is scored.

    Attributes:
        labels: values in masks, each of which counts as the structure.
        nsd_tolerance_mm: of its surface distance; None where that is not scored.
        max_dsc_drop, max_nsd_drop: its own margins; None for those of the run.
        dsc_target, nsd_target: what is asked of the network, shown beside what it reaches; None without.
        critical: a ROI must not lose a voxel of it.
    """

    labels: tuple[int, ...]
    nsd_tolerance_mm: float | None = TOLERANCE_MM
    max_dsc_drop: float | None = None
    max_nsd_drop: float | None = None
    dsc_target: float | None = None
    nsd_target: float | None = None
    critical: bool = True


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is for.

    Attributes:
        name: for headings, such as ``pancreas``.
        channels: names of the images that go into the network, in its order.
        labels: the value in masks of each label, background (0) first; labels of regions' parts too, without `ignore`.
        structures: what is scored, by name.
        ignore: value in the masks of the truth whose voxels count nowhere; None without.
        classes: names of the classes of a case, in the order of the network's logits; empty where it only segments.
        f1_target: macro-F1 that is asked of the network; None without.
        sources: where each part (``channels``, ``labels``, ``structures``, ``classes``) came from, in words.
        synonyms: other names of labels, lower case, by which a data set may call them.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, int]
    structures: Mapping[str, Structure]
    ignore: int | None = None
    classes: tuple[str, ...] = ()
    f1_target: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def structures_of(labels: Mapping[str, int]) -> dict[str, Structure]:
    """One structure for each label but the background."""
    return {name: Structure(labels=(value,)) for name, value in labels.items() if value != 0}


PANCREAS = Task(
    name="pancreas",
    channels=("CT",),
    labels={"background": 0, "pancreas": 1, "lesion": 2},
    structures={
        # The tolerances are FLARE's; the targets were set for the reference network.
        "whole pancreas": Structure(labels=(1, 2), nsd_tolerance_mm=5.0, dsc_target=0.91, critical=False),
        "lesion": Structure(labels=(2,), nsd_tolerance_mm=2.0, dsc_target=0.31),
    },
    classes=("0", "1", "2"),
    f1_target=0.70,
    sources=dict.fromkeys(("channels", "labels", "structures", "classes"), "built in"),
    synonyms={
        "pancreas": ("panc", "normal pancreas", "healthy pancreas", "pancreas parenchyma", "parenchyma"),
        "lesion": (
            "lesions", "pancreatic lesion", "pancreas lesion", "tumor", "tumour", "pancreatic tumor", "cancer",
            "mass", "cyst", "pdac",
        ),
    },
)  # fmt: skip
"""The reference network's: the whole pancreas with its lesions, the lesions, and three subtypes of them."""
