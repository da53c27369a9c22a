"""What a network is for: its channels, the labels in masks, the structures that are scored, the classes of a case."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from models.errors import some

TOLERANCE_MM = 2.0
"""Of surface distances where nothing else is said: a convention of this project. Challenges set one for each structure,
and so should a task."""
BACKGROUND, MOST_LABEL = 0, 255  # of the labels in masks, which are written in 8 bits


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
class Region:
    """What an output channel of a network of overlapping regions stands for.

    Attributes:
        structure: its name among the task's structures.
        label: that is painted into the mask where the region is present.
    """

    structure: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is for.

    Attributes:
        name: for headings, such as ``pancreas``.
        channels: names of the images that go into the network, in its order.
        labels: the value in masks of each label by its name, background (0) among them, `ignore` not.
        structures: what is scored, by name.
        regions: of a network of overlapping regions, what each of its output channels stands for; empty for a network
            whose likeliest class is taken, the labels in rising order being its channels.
        painting: order in which regions are painted into the mask, by their numbers, later over earlier; empty for the
            order of the channels.
        ignore: value in the masks of the truth whose voxels count nowhere; None without.
        classes: names of the classes of a case, in the order of the network's logits; empty where it only segments.
        f1_target: macro-F1 that is asked of the network; None without.
        sources: where each part (``channels``, ``labels``, ``structures``, ``classes``) came from, in words.
        foreground_ml: least volume of the largest connected piece of foreground, and most of all of it; None where that
            is not known. By it a region of interest is trusted or not.
        synonyms: other names of labels, lower case, by which a data set may call them.

    Raises:
        TaskError: the parts contradict each other.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, int]
    structures: Mapping[str, Structure]
    regions: tuple[Region, ...] = ()
    painting: tuple[int, ...] = ()
    ignore: int | None = None
    classes: tuple[str, ...] = ()
    f1_target: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    foreground_ml: tuple[float, float] | None = None
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem is not None:
            raise TaskError(problem)

    @property
    def output_labels(self) -> tuple[int, ...]:
        """The label in masks of each output channel of the network."""
        return tuple(region.label for region in self.regions) or tuple(sorted(self.labels.values()))

    @property
    def output_painting(self) -> tuple[int, ...] | None:
        """As of `models.model.Model.painting`."""
        return (self.painting or tuple(range(len(self.regions)))) if self.regions else None

    def _problems(self) -> Iterator[str]:
        values = list(self.labels.values())
        if not self.channels:
            yield "it names no channel"
        for value in (*values, *([] if self.ignore is None else [self.ignore])):
            if not 0 <= value <= MOST_LABEL:
                yield f"label {value} is not between 0 and {MOST_LABEL}, which masks of 8 bits can hold"
        if BACKGROUND not in values:
            yield "no label is 0, the background"
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            names = [name for name, value in self.labels.items() if value == twice]
            yield f"the labels {' and '.join(names)} have the same value {twice}"
        if self.ignore in values:
            yield f"the value {self.ignore} is a label and ignored too"
        if not self.structures:
            yield "it names no structure to score"
        for name, structure in self.structures.items():
            unknown = sorted(set(structure.labels) - set(values))
            if unknown or not structure.labels or BACKGROUND in structure.labels:
                held = f"the label {unknown[0]}, which is none" if unknown else "no foreground label, or the background"
                yield f"the structure {name} has {held}"
        for region in self.regions:
            if region.structure not in self.structures:
                yield f"a region is of {region.structure}, which is no structure"
            if region.label not in values or region.label == BACKGROUND:
                yield f"the region {region.structure} is painted as {region.label}, which is no foreground label"
        if self.painting and sorted(self.painting) != list(range(len(self.regions))):
            yield f"the painting order {self.painting} does not name each of {len(self.regions)} regions once"


def intensity_unit(channels: Sequence[str]) -> str:
    """What to write after an intensity: `` HU`` of CT; other images have no unit."""
    return " HU" if all(name.casefold().startswith("ct") for name in channels) else ""


def normal(name: str) -> str:
    """A name as names are compared: without capitals; ``_`` and ``-`` are spaces."""
    return " ".join(str(name).replace("_", " ").replace("-", " ").casefold().split())


def structures_of(labels: Mapping[str, int]) -> dict[str, Structure]:
    """One structure for each label but the background."""
    return {name: Structure(labels=(value,)) for name, value in labels.items() if value != BACKGROUND}


def difference(task: Task, other: Task) -> str | None:
    """What two tasks of one network say otherwise of its channels and outputs, such as ``the channels A, B and B, A``.

    Names may be other ones, but one name at two places or of two labels is a contradiction; so are labels to ignore,
    where both tasks have one. None where they agree.
    """
    ours, theirs = ([name.casefold() for name in of.channels] for of in (task, other))
    if len(ours) != len(theirs) or any(ours.index(name) != theirs.index(name) for name in {*ours} & {*theirs}):
        return f"the channels {_several(task.channels)} and {_several(other.channels)}"
    if task.output_painting != other.output_painting:
        return f"regions painted in the order {task.output_painting} and {other.output_painting}"
    if len(task.output_labels) != len(other.output_labels):
        return f"{len(task.output_labels)} and {len(other.output_labels)} outputs"
    for number, (label, its_label) in enumerate(zip(task.output_labels, other.output_labels, strict=True)):
        if label != its_label:
            return f"the labels {label} and {its_label} of output {number}"
    if None not in (task.ignore, other.ignore) and task.ignore != other.ignore:
        return f"the values {task.ignore} and {other.ignore} to ignore"
    labels, named = ({name.casefold(): label for name, label in of.labels.items()} for of in (task, other))
    for name in labels:
        if labels[name] != named.get(name, labels[name]):
            return f"the labels {labels[name]} and {named[name]} of {name}"
    for mine, its in zip(task.regions, other.regions, strict=True):
        parts, its_parts = ({*of.structures[region.structure].labels} for of, region in ((task, mine), (other, its)))
        if parts != its_parts:
            return f"the labels {_several(parts)} of {mine.structure} and {_several(its_parts)} of {its.structure}"
    return None


def _several(values: Iterable[object]) -> str:
    return some(list(map(str, values)), 12)


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
    foreground_ml=(5.0, 300.0),
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
