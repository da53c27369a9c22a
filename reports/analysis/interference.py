"""Samples during which the machine did something else: flagged, kept, and the decision repeated without them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import nan

from reports.analysis.gpu import is_shared
from reports.decision.comparison import candidates
from reports.decision.outcome import decide, judge_candidates
from reports.decision.speed import pairs
from reports.decision.verdict import Claim
from reports.records.record import CONFIRMATION, INTERLEAVED, GpuState, Sample, SystemLoad
from reports.records.store import Run
from reports.stats.scores import median

OTHERS_CORES = 0.25
"""Of other processes. A parallel loop ends with its slowest thread: where another process has that thread's core for a
quarter of the time, the loop takes up to a third longer. Spread over two cores it is an eighth of them. Either is
more than the smallest reduction claimed by default, 10 %."""
STOLEN_CORES = 0.05
"""By the hypervisor. It stops a core under a thread that the guest cannot move away in time, so all of it is waited
for: 0.05 cores is up to 5 % of a parallel loop, half of that claim."""
THROTTLED_CORES = 0.05
"""Held back by the CPU quota of the run's control group, which stops a thread as the hypervisor does."""
SLOW_CLOCK = 0.10
"""Below the run's median. Time goes with the clock, so that this much makes up the claim of 10 % by itself."""
_OWN_LOAD = "software power cap"  # which a variant that uses the GPU well meets in every sample

BUSY, STOLEN, SLOW = "other processes", "stolen by the hypervisor", "processor clock"
QUOTA = "CPU quota"
THROTTLED, SHARED = "GPU throttled", "GPU shared"
CRITERIA = {
    BUSY: f"other processes used more than {OTHERS_CORES:g} cores",
    STOLEN: f"the hypervisor took more than {STOLEN_CORES:g} cores",
    QUOTA: f"the CPU quota held back more than {THROTTLED_CORES:g} cores",
    SLOW: f"the processor's clock was more than {100 * SLOW_CLOCK:g} % under the run's median",
    THROTTLED: "the GPU had a reason for lower clocks other than its power limit",
    SHARED: "a process that is not the run's computed on the GPU",
}


@dataclass(frozen=True, kw_only=True)
class Interference:
    """How many samples of a run were affected by interference, and whether it matters.

    Attributes:
        recorded: samples whose system load was recorded.
        samples: timed samples, interleaved and of the confirmation; `flagged`: those affected, `reasons`: by what.
        pairs: a variant's sample and the baseline's beside it; `flagged_pairs`: those with either flagged.
        verdict, headline: of the run without the flagged pairs; None where nothing was flagged, or every pair.
    """

    recorded: int = 0
    samples: int = 0
    flagged: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    pairs: int = 0
    flagged_pairs: int = 0
    verdict: str | None = None
    headline: str | None = None

    @property
    def share(self) -> float:
        """Of the pairs; NaN where no system load was recorded."""
        return self.flagged_pairs / self.pairs if self.recorded and self.pairs else nan


def assess_interference(run: Run, claim: Claim) -> Interference:
    """Flag the run's samples, and decide again without the pairs in which either is flagged."""
    usual = typical_mhz(run)
    timed = [
        sample for variant in run.variants for sample in variant.samples if sample.phase in (INTERLEAVED, CONFIRMATION)
    ]
    reasons = [flags(sample, usual[sample.shard]) for sample in timed]
    recorded = sum(sample.system_load is not None or sample.gpu is not None for sample in timed)
    flagged = sum(map(bool, reasons))
    if not flagged:
        return Interference(recorded=recorded, samples=len(timed), pairs=_count_pairs(run))
    kept = without_interference(run)
    paired, left = _count_pairs(run), _count_pairs(kept)
    outcome = decide(kept, claim, judge_candidates(kept, claim)) if left else None  # nothing decides nothing
    return Interference(
        recorded=recorded,
        samples=len(timed),
        flagged=flagged,
        reasons=dict(Counter(chain.from_iterable(reasons))),
        pairs=paired,
        flagged_pairs=paired - left,
        verdict=outcome.verdict if outcome else None,
        headline=outcome.headline if outcome else None,
    )


def without_interference(run: Run) -> Run:
    """The run without its flagged samples. A sample left without its partner is in no pair, so it counts nowhere."""
    usual = typical_mhz(run)
    variants = (
        replace(variant, samples=tuple(s for s in variant.samples if not flags(s, usual[s.shard])))
        for variant in run.variants
    )
    return replace(run, variants=tuple(variants))


def flags(sample: Sample, median_mhz: float = nan) -> tuple[str, ...]:
    """Which of `CRITERIA` the sample meets; what was not recorded is not held against it.

    `median_mhz` is the median clock of the processor over the machine's samples, NaN where unknown.
    """
    reasons = list(_load_reasons(sample.system_load, median_mhz)) if sample.system_load else []
    return (*reasons, *(_gpu_reasons(sample.gpu, sample.workers) if sample.gpu else ()))


def _load_reasons(load: SystemLoad, median_mhz: float) -> Iterator[str]:
    if load.others is not None and load.others > OTHERS_CORES:
        yield BUSY
    if load.stolen is not None and load.stolen > STOLEN_CORES:
        yield STOLEN
    if load.throttled is not None and load.throttled > THROTTLED_CORES:
        yield QUOTA
    if load.mhz is not None and load.mhz < (1 - SLOW_CLOCK) * median_mhz:
        yield SLOW


def _gpu_reasons(gpu: GpuState, workers: int | None) -> Iterator[str]:
    if set(gpu.throttled_by) - {_OWN_LOAD}:
        yield THROTTLED
    if is_shared(gpu, workers):
        yield SHARED


def typical_mhz(run: Run) -> dict[int, float]:
    """Median clock of the processor over the samples of each shard, of a run that was not merged over those of 0.

    NaN where it was not recorded.
    """
    clocks: dict[int, list[float]] = {0: []}
    for sample in (sample for variant in run.variants for sample in variant.samples):
        load, own = sample.system_load, clocks.setdefault(sample.shard, [])
        own += [load.mhz] if load is not None and load.mhz is not None else []
    return {shard: median(own) for shard, own in clocks.items()}


def _count_pairs(run: Run) -> int:
    return sum(
        len(pairs(run, variant.name, phase)) for variant in candidates(run) for phase in (INTERLEAVED, CONFIRMATION)
    )
