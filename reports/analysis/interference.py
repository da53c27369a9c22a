"""Samples that something else disturbed: flagged, kept, and the decision repeated without them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import nan

from reports.analysis.gpu import is_shared
from reports.decision.comparison import candidates
from reports.decision.outcome import decide, judge_candidates
from reports.decision.speed import pairs
from reports.decision.verdict import Claim
from reports.records.record import CONFIRMATION, DUEL, Ambient, GpuState, Sample
from reports.records.store import Run
from reports.stats.scores import median

OTHERS_CORES = 0.25
"""Of other processes. A parallel loop ends with its slowest thread: where another process has that thread's core for a
quarter of the time, the loop takes up to a third longer. Spread over two cores it is an eighth of them. Either is
more than the smallest reduction claimed by default, 10 %."""
STOLEN_CORES = 0.05
"""By the hypervisor. It stops a core under a thread that the guest cannot move away in time, so all of it is waited
for: 0.05 cores is up to 5 % of a parallel loop, half of that claim."""
SLOW_CLOCK = 0.10
"""Below the run's median. Time goes with the clock, so that this much makes up the claim of 10 % by itself."""
_OWN_LOAD = "software power cap"  # which a backend that uses the GPU well meets in every sample

BUSY, STOLEN, SLOW = "other processes", "stolen by the hypervisor", "processor clock"
THROTTLED, SHARED = "GPU throttled", "GPU shared"
CRITERIA = {
    BUSY: f"other processes used more than {OTHERS_CORES:g} cores",
    STOLEN: f"the hypervisor took more than {STOLEN_CORES:g} cores",
    SLOW: f"the processor's clock was more than {100 * SLOW_CLOCK:g} % under the run's median",
    THROTTLED: "the GPU had a reason for lower clocks other than its power limit",
    SHARED: "a process that is not the run's computed on the GPU",
}


@dataclass(frozen=True)
class Interference:
    """How much of a run was disturbed, and whether it matters.

    Attributes:
        told: samples whose surroundings were recorded; 0 in runs from before they were.
        samples: timed samples, in duels and confirmation; `flagged`: those disturbed, `reasons`: by what.
        pairs: a backend's sample and the baseline's beside it; `flagged_pairs`: those with either flagged.
        verdict, headline: of the run without the flagged pairs; None where nothing was flagged.
    """

    told: int = 0
    samples: int = 0
    flagged: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    pairs: int = 0
    flagged_pairs: int = 0
    verdict: str | None = None
    headline: str | None = None

    @property
    def share(self) -> float:
        """Of the pairs; NaN where no surroundings were recorded."""
        return self.flagged_pairs / self.pairs if self.told and self.pairs else nan


def assess_interference(run: Run, claim: Claim) -> Interference:
    """Flag the run's samples, and decide again without the pairs in which either is flagged."""
    usual = _usual_mhz(run)
    timed = [sample for backend in run.backends for sample in backend.samples if sample.phase in (DUEL, CONFIRMATION)]
    why = [flags(sample, usual) for sample in timed]
    told = sum(sample.ambient is not None or sample.gpu is not None for sample in timed)
    flagged = sum(map(bool, why))
    if not flagged:
        return Interference(told, len(timed), pairs=_pairs(run))
    quiet = without_interference(run)
    outcome = decide(quiet, claim, judge_candidates(quiet, claim))
    both = _pairs(run)
    return Interference(
        told, len(timed), flagged, dict(Counter(reason for reasons in why for reason in reasons)), both,
        both - _pairs(quiet), outcome.verdict, outcome.headline,
    )  # fmt: skip


def without_interference(run: Run) -> Run:
    """The run without its flagged samples. A sample left without its partner is in no pair, so it counts nowhere."""
    usual = _usual_mhz(run)
    backends = (
        replace(backend, samples=tuple(sample for sample in backend.samples if not flags(sample, usual)))
        for backend in run.backends
    )
    return replace(run, backends=tuple(backends))


def flags(sample: Sample, usual_mhz: float = nan) -> tuple[str, ...]:
    """Which of `CRITERIA` the sample meets; what was not recorded is not held against it.

    `usual_mhz` is the median clock of the processor over the run's samples, NaN where unknown.
    """
    found = list(_by_ambient(sample.ambient, usual_mhz)) if sample.ambient else []
    return (*found, *(_by_gpu(sample.gpu, sample.workers) if sample.gpu else ()))


def _by_ambient(found: Ambient, usual_mhz: float) -> Iterator[str]:
    if found.others is not None and found.others > OTHERS_CORES:
        yield BUSY
    if found.stolen is not None and found.stolen > STOLEN_CORES:
        yield STOLEN
    if found.mhz is not None and found.mhz < (1 - SLOW_CLOCK) * usual_mhz:
        yield SLOW


def _by_gpu(found: GpuState, workers: int | None) -> Iterator[str]:
    if set(found.throttled_by) - {_OWN_LOAD}:
        yield THROTTLED
    if is_shared(found, workers):
        yield SHARED


def _usual_mhz(run: Run) -> float:
    ambients = (sample.ambient for backend in run.backends for sample in backend.samples)
    return median([ambient.mhz for ambient in ambients if ambient is not None and ambient.mhz is not None])


def _pairs(run: Run) -> int:
    return sum(len(pairs(run, backend.name, phase)) for backend in candidates(run) for phase in (DUEL, CONFIRMATION))
