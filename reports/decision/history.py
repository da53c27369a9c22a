"""Many runs of a project: how the speedup of each variant went, and where its level changed.

Runs are compared only with those that have the same controlled settings, weights, data and baseline, as by
`reports.decision.regression`, and the same machine: each such set is a series of its own. What is followed is the
speedup over the baseline that every run has beside its samples; seconds of runs that are not interleaved say little.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite, log

from reports.decision.comparability import Difference, controlled_differences, machine, uncontrolled_differences
from reports.decision.speed import interleaved_speed
from reports.formatting import count
from reports.records.record import INTERLEAVED, RunRecord
from reports.records.store import Run
from reports.stats.bootstrap import MIN_CASES, Interval
from reports.stats.change_points import LEAST, band, change_points, log_error
from reports.stats.scores import exponential, median

FELL, ROSE = "fell", "rose"

_NO_CHANGE_OF_ITS_OWN = "started"  # which differs between any two runs


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A variant in a run.

    Attributes:
        speedup: over the baseline, by the interleaved samples; NaN where it has none beside it.
        seconds: median of a case, or of a call over all; not interleaved with other runs.
        cases: that the speedup rests on.
    """

    speedup: Interval
    seconds: float
    cases: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run of a history: its record, without samples, and what its variants came to."""

    run: Run
    measured: dict[str, Measured]

    @property
    def record(self) -> RunRecord:
        return self.run.record

    @property
    def name(self) -> str:
        return self.run.name


@dataclass(frozen=True, kw_only=True)
class Point:
    """A variant in the run `entry`, and the number of its level, from 0."""

    entry: Entry
    measured: Measured
    level: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change of the speedup between two neighbouring runs of a trend.

    Attributes:
        before, after: the last run of the old level, and the first of the new one.
        ratio: of the geometric mean of the speedups, new level over old one; below 1 is slower.
        p: the probability that the same runs in a random order are split as well.
        differences: what else is not the same in these two runs.
    """

    before: Entry
    after: Entry
    ratio: Interval
    p: float
    differences: tuple[Difference, ...]

    @property
    def direction(self) -> str:
        return FELL if self.ratio.estimate < 1 else ROSE


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A variant over the runs of a series, in their order.

    Attributes:
        name, made_of: the variant, and what it is made of.
        levels: geometric mean of each level's speedups, with the band of its noise: 95 % of further runs lie in it.
        note: why there are no bands and change points; empty otherwise.
        missing: runs in which it has no speedup, each with the reason.
    """

    name: str
    made_of: str
    points: tuple[Point, ...]
    levels: tuple[Interval, ...]
    steps: tuple[Step, ...]
    note: str
    missing: tuple[tuple[Entry, str], ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Runs that may be compared, on one machine.

    Attributes:
        machine: in words.
        entries: by the time they were started.
        trends: one for each variant but the baseline and reference pipelines.
        differences: what must be equal and is not that of the history's first series, and the machine; empty for it.
    """

    machine: str
    entries: tuple[Entry, ...]
    trends: tuple[Trend, ...]
    differences: tuple[Difference, ...]

    @property
    def baseline(self) -> str:
        return self.entries[0].record.baseline


@dataclass(frozen=True, kw_only=True)
class History:
    """All series, the one that began first before the others, and a line for whatever was left out."""

    series: tuple[Series, ...]
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        return sum(len(series.entries) for series in self.series)

    @property
    def steps(self) -> Iterator[tuple[Series, Trend, Step]]:
        """Every change point."""
        return ((series, t, step) for series in self.series for t in series.trends for step in t.steps)


def history(runs: Iterable[Run], notes: Iterable[str] = ()) -> History:
    """Sort `runs` into series and look for changes. Their samples are let go one run after the other.

    `notes`: on what was left out before; a run that is there twice adds one.
    """
    entries: list[Entry] = []
    doubled = []
    for entry in sorted(map(_entry, runs), key=_started):
        same = next((other for other in entries if other.record == entry.record), None)
        if same is None:
            entries.append(entry)
        else:
            doubled.append(f"{entry.name}: the same run as {same.name}, and left out")
    groups: list[list[Entry]] = []
    for entry in entries:
        group = next((each for each in groups if _belongs(each, entry)), None)
        if group is None:
            groups.append([entry])
        else:
            group.append(entry)
    return History(
        series=tuple(_series(group, groups[0][0]) for group in groups),
        notes=(*notes, *doubled),
    )


def _entry(run: Run) -> Entry:
    measured = {}
    for variant in run.variants:
        times = [sample.case_ns for sample in variant.samples if sample.phase == INTERLEAVED]
        if times and variant.counts:
            own = interleaved_speed(run, variant.name)
            measured[variant.name] = Measured(speedup=own.speedup, cases=own.cases, seconds=median(times) / 1e9)
    without_samples = tuple(replace(variant, samples=(), scores=()) for variant in run.variants)
    return Entry(run=replace(run, variants=without_samples), measured=measured)


def _started(entry: Entry) -> tuple[float, str, str]:
    try:
        moment = datetime.fromisoformat(entry.record.created).timestamp()
    except ValueError:
        moment = 0.0
    return moment, entry.record.created, entry.name


def _belongs(group: list[Entry], entry: Entry) -> bool:
    """Whether the run may be compared with every run of the group: one may lack what another two have unlike."""
    return machine(group[0].record) == machine(entry.record) and not any(
        controlled_differences(other.record, entry.record) for other in group
    )


def _series(group: list[Entry], first: Entry) -> Series:
    record = group[0].record
    machines = machine(first.record), machine(record)
    differences = (("machine", *machines),) if machines[0] != machines[1] else ()
    peers = {name for entry in group for name in entry.record.peers}
    names = dict.fromkeys(name for entry in group for name in entry.record.settings.variants)
    return Series(
        machine=machines[1],
        entries=tuple(group),
        trends=tuple(_trend(group, name) for name in names if name != record.baseline and name not in peers),
        differences=(*differences, *controlled_differences(first.record, record)),
    )


def _trend(group: list[Entry], name: str) -> Trend:
    measured = [entry for entry in group if name in entry.measured and isfinite(entry.measured[name].speedup.estimate)]
    logs = [log(entry.measured[name].speedup.estimate) for entry in measured]
    changes = change_points(logs, [log_error(entry.measured[name].speedup) for entry in measured])
    starts = (0, *(change.index for change in changes))
    levels = band(logs, starts) if len(logs) >= MIN_CASES else ()
    return Trend(
        name=name,
        made_of=next(str(e.record.settings.variants[name]) for e in group if name in e.record.settings.variants),
        points=tuple(
            Point(entry=entry, measured=entry.measured[name], level=sum(i >= start for start in starts) - 1)
            for i, entry in enumerate(measured)
        ),
        levels=tuple(map(exponential, levels)),
        steps=tuple(
            _step(measured[change.index - 1], measured[change.index], exponential(change.change), change.p)
            for change in changes
        ),
        note=_too_few(len(measured)),
        missing=tuple((entry, _absence(entry, name)) for entry in group if entry not in measured),
    )


def changed_between(before: Entry, after: Entry) -> tuple[Difference, ...]:
    """What is not the same in two runs of a series, such as versions; that they started at other times is no matter."""
    differences = uncontrolled_differences(before.run, after.run)
    return tuple(each for each in differences if each[0] != _NO_CHANGE_OF_ITS_OWN)


def _step(before: Entry, after: Entry, ratio: Interval, p: float) -> Step:
    return Step(before=before, after=after, ratio=ratio, p=p, differences=changed_between(before, after))


def _too_few(runs: int) -> str:
    few = count(runs, "run")
    if runs < MIN_CASES:
        return f"no noise band with {few}, which takes {MIN_CASES}, and no change points, which take {LEAST}"
    return f"no change points with {few}; they take {LEAST}" if runs < LEAST else ""


def _absence(entry: Entry, name: str) -> str:
    if name not in entry.record.settings.variants:
        return "not part of the run"
    variant = entry.run.variant(name)
    return variant.status + (f": {variant.reason}" if variant.reason else "")
