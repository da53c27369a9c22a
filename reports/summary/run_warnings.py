"""What speaks against taking a run's figures at their word. Nothing here changes a verdict."""

from collections.abc import Iterator, Sequence
from math import isfinite

from reports.analysis.diagnostics import Diagnostics
from reports.analysis.interference import Interference
from reports.formatting import count, percent
from reports.summary.summary import Row

CLOCKS_DIFFER = 0.05  # of the forward, between the host's clock and device events
OFTEN = 0.05  # of a backend's samples
DRIFT_PCT = 2.0  # of the baseline's time over the run
ORDER_PCT, ORDER_P = 1.0, 0.01
MOSTLY = 0.5  # of the pairs: beyond that the decision without them rests on less than half of what was planned
LASTING = 0.2  # autocorrelation that would matter if samples were the unit; cases are


def run_warnings(
    rows: Sequence[Row], diagnostics: Diagnostics, interference: Interference, verdict: str
) -> tuple[str, ...]:
    """One line each; `verdict` is that of the whole run."""
    return (
        *_clocks(rows), *_throttled(rows), *_shared(rows), *_better_baseline(rows), *_drifting(diagnostics),
        *_ordered(diagnostics), *_lasting(diagnostics), *_started_once(rows), *_disturbed(interference, verdict),
    )  # fmt: skip


def _drifting(diagnostics: Diagnostics) -> Iterator[str]:
    drift = diagnostics.drift
    if drift is not None and abs(drift.pct_over_run) > DRIFT_PCT and drift.p < 0.05:
        yield (
            f"the baseline's time changed by {drift.pct_over_run:+.1f} % over the duels (p = {drift.p:.1g}); the "
            "ratios of neighbours hardly notice, but seconds are not comparable with other runs"
        )


def _ordered(diagnostics: Diagnostics) -> Iterator[str]:
    told = [(n, e) for n, e in diagnostics.order.items() if e.p_holm < ORDER_P and e.range_pct > ORDER_PCT]
    if told:
        listed = ", ".join(f"{name} (up to {percent(effect.range_pct)})" for name, effect in told)
        yield f"time depends on the position within a round: {listed}; the order is random, so it widens the bounds"


def _lasting(diagnostics: Diagnostics) -> Iterator[str]:
    told = [
        (name, found)
        for name, found in diagnostics.autocorrelation.items()
        if abs(found.lag1) > max(2 * found.standard_error, LASTING)
    ]
    if told:
        listed = ", ".join(f"{name} ({found.lag1:+.2f})" for name, found in told)
        yield (
            f"the log ratios of neighbouring samples depend on each other: autocorrelation {listed}; the bounds take "
            "cases as independent, and are too narrow where it is positive, too wide where it is negative"
        )


def _started_once(rows: Sequence[Row]) -> Iterator[str]:
    told = [row.name for row in rows if not row.is_baseline and row.case.cases and row.case.launches == 1]
    if told:
        yield (
            f"{', '.join(told)}: timed in the duels by one start of the processes, and two starts of the same backend "
            "differ; the bounds of these rows do not hold that"
        )


def _clocks(rows: Sequence[Row]) -> Iterator[str]:
    """Device events cannot be longer than the synchronised host clock around them, unless something ran on."""
    told = [(row.name, row.device_share) for row in rows if isfinite(row.device_share)]
    shorter = [(name, share) for name, share in told if share < 1 - CLOCKS_DIFFER]
    longer = [(name, share) for name, share in told if share > 1 + CLOCKS_DIFFER]
    if shorter:
        yield (
            f"of the forward by the host's clock, device events account for {_listed(shorter)}; the rest is launching "
            "kernels and waiting, which a CUDA graph or a larger batch would save"
        )
    if longer:
        yield (
            f"of the forward by the host's clock, device events give {_listed(longer)}; work was not over when the "
            "clock was read, so do not trust these times"
        )


def _throttled(rows: Sequence[Row]) -> Iterator[str]:
    uses = [(row.name, row.gpu) for row in rows if row.gpu is not None and row.gpu.throttled > OFTEN]
    if uses:
        reasons = sorted({reason for _, use in uses for reason in use.throttled_by})
        often = _listed([(name, use.throttled) for name, use in uses])
        yield (
            f"the GPU was throttled ({', '.join(reasons)}) after {often} of the samples; the backends of a "
            "round suffer alike, but seconds are not comparable with other runs"
        )


def _shared(rows: Sequence[Row]) -> Iterator[str]:
    uses = [(row.name, row.gpu.shared) for row in rows if row.gpu is not None and row.gpu.shared > OFTEN]
    if uses:
        yield f"processes that are not the run's used the GPU beside {_listed(uses)} of the samples"


def _better_baseline(rows: Sequence[Row]) -> Iterator[str]:
    """The baseline's own backend, run with another batch and faster: then the claim rests on the batch."""
    baseline = next((row.name for row in rows if row.is_baseline), "")
    for row in rows:
        if row.name.startswith(f"{baseline}@") and row.case.reduction.low > 0:
            r, batch = row.case.reduction, row.name.partition("@")[2].partition("#")[0]
            yield (
                f"{row.name} takes {percent(r.estimate)} less time than the baseline (at least {percent(r.low)}): with "
                f"--batch {batch} as the baseline the others save less"
            )


def _listed(shares: Sequence[tuple[str, float]]) -> str:
    """``90 % (a, b), 88 % (c)``"""
    names: dict[str, list[str]] = {}
    for name, share in sorted(shares, key=lambda one: one[1]):
        names.setdefault(percent(100 * share, 0), []).append(name)
    return ", ".join(f"{share} ({', '.join(those)})" for share, those in names.items())


def _disturbed(found: Interference, verdict: str) -> Iterator[str]:
    if found.flagged_pairs > MOSTLY * found.pairs:
        share = percent(100 * found.share, 0)
        yield f"{share} of the pairs of samples were disturbed: measure again on a quieter machine"
    if found.verdict is not None and found.verdict != verdict:
        without = count(found.flagged_pairs, "disturbed pair")
        why = (found.headline or "").partition(": ")[2]
        yield f"the verdict is {verdict}, but {found.verdict} without {without} of {found.pairs} ({why})"
