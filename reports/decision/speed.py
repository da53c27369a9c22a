"""How much faster one variant is than the baseline: samples paired by shard, launch, round and case.

Where one of both ran all cases in one call, no case has a time of its own. Then the pair is the call and the sum of the
other's cases in the same launch and round, and calls, of which every launch has the mean, are what is resampled.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import exp, log, nan

import numpy as np

from reports.records.record import ALL_CASES, INTERLEAVED, Sample, VariantRecord
from reports.records.store import Run
from reports.stats.bootstrap import Bootstrap, Interval, of_cases, of_mean, of_shards
from reports.stats.launches import Floats, joined
from reports.stats.scores import exponential, time_reduction_pct

Pair = tuple[Sample, Sample]  # the baseline's sample and the candidate's: same phase, shard, launch, round and case
PER_CASE, PER_CALL = "case", "call"  # what is resampled

_Place = tuple[int, int, int, str]  # of a sample in its phase: shard, launch, round and case


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What the pairs say about one scope of time.

    Attributes:
        cases, pairs: how many cases and pairs of samples the figures rest on.
        unit: what `cases` counts: `PER_CASE`, or `PER_CALL` where one of both ran all cases in one call.
        speedup: baseline time / candidate time.
        reduction: percentage of the baseline's time that is saved.
        log_speedup: what the speedup and its bounds are taken from.
        launches: of the worker processes that have cases in common, so that the bounds hold what launches differ by; 1
            where no case was timed in two.
    """

    cases: int = 0
    pairs: int = 0
    speedup: Interval = field(default_factory=Interval)
    log_speedup: Bootstrap = field(default_factory=Bootstrap, repr=False)
    launches: int = 0
    unit: str = PER_CASE

    @property
    def scope(self) -> str:
        """What takes the time, in words."""
        return "case time" if self.unit == PER_CASE else "time of a call over all cases"

    @property
    def reduction(self) -> Interval:
        return time_reduction_pct(self.speedup)

    @property
    def half_width(self) -> float:
        """Half of the distance between the bounds, as a share of the baseline's time or of the variant's own.

        The smaller of both: the one says nothing of a variant that takes many times as long, the other of one that
        takes hardly any time. NaN without bounds.
        """
        return min(self.reduction.high - self.reduction.low, 100 * log(self.speedup.high / self.speedup.low)) / 200

    def reduction_high(self, alpha: float) -> float:
        """The upper bound of the reduction with error rate `alpha`, in percent."""
        return 100 * (1 - exp(-self.log_speedup.high(alpha)))

    def p_at_most(self, reduction_pct: float) -> float:
        """The p-value of "the reduction is at most so many percent"; NaN where there are no bounds."""
        return self.log_speedup.p_at_most(-log(1 - reduction_pct / 100))


def case_ns(sample: Sample) -> int:
    """Nanoseconds from the file on disk to mask and class on disk."""
    return sample.case_ns


def forward_ns(sample: Sample) -> int:
    """Nanoseconds in the engine alone."""
    return sample.stages_ns.get("forward", 0)


def pairs(run: Run, name: str, phase: str, baseline_name: str | None = None) -> tuple[Pair, ...]:
    """The samples of variant `name` in `phase` that have their baseline beside them; the others say nothing.

    `baseline_name`: another variant in the place of the run's baseline.
    """
    both = (run.variant(baseline_name or run.record.baseline), run.variant(name))
    if any(variant.settings.one_call for variant in both):
        baseline, candidate = (_by_call(variant, phase, len(run.record.cases)) for variant in both)
    else:
        baseline, candidate = (_by_place(variant.samples, phase) for variant in both)
    return tuple((baseline[place], sample) for place, sample in candidate.items() if place in baseline)


def speed(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> Speed:
    """The speedup over `paired` in one scope of time; shards, cases and launches of the processes vary, or calls."""
    paired = tuple(paired)
    ratios = log_ratios(paired, time_ns)
    if any(case == ALL_CASES for case, _ in ratios):
        return _speed_of_calls(ratios)
    cells = [_log_ratio_array(log_ratios(own, time_ns)) for own in by_shard(paired).values()]
    log_speedup = of_shards(cells)
    return Speed(
        cases=sum(own.shape[0] for own in cells),
        pairs=sum(map(len, ratios.values())),
        speedup=exponential(log_speedup.interval),
        log_speedup=log_speedup,
        launches=sum(map(joined, cells)),
    )


def by_shard(paired: Iterable[Pair]) -> dict[int, list[Pair]]:
    """The pairs of each shard by its number; of a run that was not merged all of them, by 0."""
    shards: dict[int, list[Pair]] = {}
    for pair in paired:
        shards.setdefault(pair[1].shard, []).append(pair)
    return dict(sorted(shards.items()))


def interleaved_speed(run: Run, name: str, baseline_name: str | None = None) -> Speed:
    """The case time of variant `name` by the interleaved samples, against the run's baseline or `baseline_name`."""
    return speed(pairs(run, name, INTERLEAVED, baseline_name), case_ns)


def interleaved_speedup(run: Run, name: str) -> Interval:
    """The speedup of variant `name` over the run's baseline; 1 without bounds for the baseline itself."""
    return Interval(1.0) if name == run.record.baseline else interleaved_speed(run, name).speedup


def _speed_of_calls(ratios: Mapping[tuple[str, int], list[float]]) -> Speed:
    log_speedup = of_mean(_of_calls(ratios))
    return Speed(
        cases=len(ratios),
        pairs=sum(map(len, ratios.values())),
        speedup=exponential(log_speedup.interval),
        log_speedup=log_speedup,
        launches=len(ratios),
        unit=PER_CALL,
    )


def log_speedups_of_calls(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> list[float]:
    """The log speedup of the calls over all cases of each launch; empty where each case has a time of its own."""
    return _of_calls({of: values for of, values in log_ratios(paired, time_ns).items() if of[0] == ALL_CASES})


def _of_calls(ratios: Mapping[tuple[str, int], list[float]]) -> list[float]:
    """Calls of one launch share its luck, so that a launch counts once; the run launches anew before every call."""
    return [float(np.mean(values)) for values in ratios.values()]


def log_ratios(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> dict[tuple[str, int], list[float]]:
    """Logs of baseline time / candidate time of each case and launch, over the rounds; of shards, none share a case."""
    ratios: dict[tuple[str, int], list[float]] = {}
    for baseline, candidate in paired:
        before, after = time_ns(baseline), time_ns(candidate)
        if before > 0 and after > 0:
            ratios.setdefault((candidate.case, candidate.launch), []).append(log(before / after))
    return ratios


def log_speedups(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> dict[str, float]:
    """The log speedup of each case by name; their mean is that of `speed`, where it has a time of each case."""
    speedups: dict[str, float] = {}
    for own in by_shard(paired).values():
        ratios = log_ratios(own, time_ns)
        names = sorted({case for case, _ in ratios})
        speedups |= zip(names, of_cases(_log_ratio_array(ratios)).tolist(), strict=True)
    return speedups


def _log_ratio_array(ratios: dict[tuple[str, int], list[float]]) -> Floats:
    """[cases, launches, rounds]; NaN where a case was not run."""
    cases = sorted({case for case, _ in ratios})
    launches = sorted({launch for _, launch in ratios})
    cells = np.full((len(cases), len(launches), max(map(len, ratios.values()), default=0)), nan)
    for (case, launch), values in ratios.items():
        cells[cases.index(case), launches.index(launch), : len(values)] = values
    return cells


def _by_place(samples: Iterable[Sample], phase: str) -> dict[_Place, Sample]:
    return {(s.shard, s.launch, s.round, s.case): s for s in samples if s.phase == phase}


def _by_call(variant: VariantRecord, phase: str, cases: int) -> dict[_Place, Sample]:
    """Its calls over all cases; of a variant that ran case by case their sums in each launch and round with all."""
    samples = _by_place(variant.samples, phase)
    if variant.settings.one_call:
        return samples
    rounds: dict[tuple[int, int, int], list[Sample]] = {}
    for sample in samples.values():
        rounds.setdefault((sample.shard, sample.launch, sample.round), []).append(sample)
    return {(*place, ALL_CASES): _summed(parts) for place, parts in rounds.items() if len(parts) == cases}


def _summed(samples: list[Sample]) -> Sample:
    """Cases of one round as if a single call had run them; it starts with the first."""
    first = min(samples, key=lambda sample: sample.started_unix_s)
    stages = {stage for sample in samples for stage in sample.stages_ns}
    return replace(
        first,
        case=ALL_CASES,
        case_ns=sum(sample.case_ns for sample in samples),
        stages_ns={stage: sum(sample.stages_ns.get(stage, 0) for sample in samples) for stage in sorted(stages)},
        cpu_ns=sum(sample.cpu_ns for sample in samples),
        tiles=sum(sample.tiles for sample in samples),
        device_ns=None,
        roi=None,
        subtype=None,
        classes={sample.case: sample.subtype for sample in samples},
    )
