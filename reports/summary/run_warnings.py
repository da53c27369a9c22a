"""What a reader should know before believing a run's figures. Nothing here changes a verdict."""

from collections.abc import Iterator, Sequence
from math import isfinite

from reports.analysis.diagnostics import Diagnostics
from reports.analysis.interference import QUOTA, Interference
from reports.formatting import at_least, count, percent
from reports.records.record import AGREEMENT, RunRecord
from reports.summary.summary import Row

LOWERED = ("tf32", "fp16", "bf16", "int8")  # precisions below FP32
LEAST_LOWERED = 0.005  # of the multiply-accumulates: less is no matter of the variant's name
CLOCKS_DIFFER = 0.05  # of the forward, between the host's clock and device events
OFTEN = 0.05  # of a variant's samples
DRIFT_PCT = 2.0  # of the baseline's time over the run
ORDER_PCT, ORDER_P = 1.0, 0.01
MOSTLY = 0.5  # of the pairs: beyond that the decision without them rests on less than half of what was planned
LASTING = 0.2  # autocorrelation that would matter if samples were the unit; cases are


def run_warnings(
    rows: Sequence[Row], diagnostics: Diagnostics, interference: Interference, verdict: str
) -> tuple[str, ...]:
    """One line each; `verdict` is that of the whole run."""
    return (
        *_clocks_differ(rows),
        *_gpu_throttled(rows),
        *_gpu_shared(rows),
        *_faster_baseline_batch(rows),
        *_drift(diagnostics),
        *_order_effects(diagnostics),
        *_autocorrelation(diagnostics),
        *_single_launch(rows),
        *_interference(interference, verdict),
    )


def agreement_warning(record: RunRecord) -> Iterator[str]:
    """What a verdict on agreement does not say."""
    if record.settings.accuracy == AGREEMENT:
        masks = any(case.mask is not None for case in record.cases)
        why = "though the data hold masks" if masks else "as the data hold no masks"
        yield (
            f"nothing was scored against a ground truth, {why}: the verdict is on the agreement with the output of "
            f"{record.baseline}, and does not say whether that output is right"
        )


def lossy_baseline(record: RunRecord, rows: Sequence[Row]) -> tuple[str, ...]:
    """Scores are differences to the baseline, so that a loss of one that the user chose is in none of them."""
    row = next((row for row in rows if row.is_baseline), None)
    if row is None or not record.baseline_chosen:
        return ()
    share = row.evidence.mac_share if row.evidence else {}
    parts = [
        f"{name.upper()} in {percent(100 * share[name], 0)} of its multiply-accumulates"
        for name in LOWERED
        if share.get(name, 0) >= LEAST_LOWERED
    ]
    if row.settings.recipe and row.settings.roi != "none":
        parts.append(f"the ROI {row.settings.roi}")
    if not parts:
        return ()
    return (
        f"the baseline {row.name} is lossy itself ({' and '.join(parts)}): times and accuracy are shown relative to "
        "it, and what it has lost is in no difference",
    )


def _drift(diagnostics: Diagnostics) -> Iterator[str]:
    drift = diagnostics.drift
    if drift is not None and abs(drift.pct_over_run) > DRIFT_PCT and drift.p < 0.05:
        yield (
            f"the baseline's time changed by {drift.pct_over_run:+.1f} % over the run (p = {drift.p:.1g}); the "
            "ratios of neighbours hardly notice, but seconds are not comparable with other runs"
        )


def _order_effects(diagnostics: Diagnostics) -> Iterator[str]:
    effects = [(n, e) for n, e in diagnostics.order.items() if e.p_holm < ORDER_P and e.range_pct > ORDER_PCT]
    if effects:
        listed = ", ".join(f"{name} (up to {percent(effect.range_pct)})" for name, effect in effects)
        yield f"time depends on the position within a round: {listed}; the order is random, so it widens the bounds"


def _autocorrelation(diagnostics: Diagnostics) -> Iterator[str]:
    lags = [
        (name, lag)
        for name, lag in diagnostics.autocorrelation.items()
        if abs(lag.lag1) > max(2 * lag.standard_error, LASTING)
    ]
    if lags:
        listed = ", ".join(f"{name} ({lag.lag1:+.2f})" for name, lag in lags)
        yield (
            f"the log ratios of neighbouring samples depend on each other: autocorrelation {listed}; the bounds take "
            "cases as independent, and are too narrow where it is positive, too wide where it is negative"
        )


def _single_launch(rows: Sequence[Row]) -> Iterator[str]:
    shown = [row for row in rows if not (row.is_baseline or row.left)]
    names = [row.name for row in shown if row.case.cases and row.case.launches == 1]
    if names:
        yield (
            f"{', '.join(names)}: each case was timed in a single launch of the processes, and two launches of the "
            "same variant differ; the bounds of these rows do not include that"
        )


def _clocks_differ(rows: Sequence[Row]) -> Iterator[str]:
    """Device events cannot be longer than the synchronised host clock around them, unless something ran on."""
    shares = [(row.name, row.device_share) for row in rows if isfinite(row.device_share)]
    shorter = [(name, share) for name, share in shares if share < 1 - CLOCKS_DIFFER]
    longer = [(name, share) for name, share in shares if share > 1 + CLOCKS_DIFFER]
    if shorter:
        yield (
            f"of the forward by the host's clock, device events account for {_shares_text(shorter)}; the rest is "
            "launching kernels and waiting, which a CUDA graph or a larger batch would save"
        )
    if longer:
        yield (
            f"of the forward by the host's clock, device events give {_shares_text(longer)}; work was not over when "
            "the clock was read, so do not trust these times"
        )


def _gpu_throttled(rows: Sequence[Row]) -> Iterator[str]:
    uses = [(row.name, row.gpu) for row in rows if row.gpu is not None and row.gpu.throttled > OFTEN]
    if uses:
        reasons = sorted({reason for _, use in uses for reason in use.throttled_by})
        often = _shares_text([(name, use.throttled) for name, use in uses])
        yield (
            f"the GPU was throttled ({', '.join(reasons)}) after {often} of the samples; the variants of a "
            "round suffer alike, but seconds are not comparable with other runs"
        )


def _gpu_shared(rows: Sequence[Row]) -> Iterator[str]:
    uses = [(row.name, row.gpu.shared) for row in rows if row.gpu is not None and row.gpu.shared > OFTEN]
    if uses:
        yield f"processes that are not the run's used the GPU beside {_shares_text(uses)} of the samples"


def _faster_baseline_batch(rows: Sequence[Row]) -> Iterator[str]:
    """The baseline's own backend, run with another batch and faster: then the claim rests on the batch."""
    baseline = next((row.settings for row in rows if row.is_baseline), None)
    for row in rows:
        own, r = row.settings, row.case.reduction
        another_batch = baseline and own.backend == baseline.backend and own.batch != baseline.batch
        if another_batch and not own.recipe and r.low > 0:
            yield (
                f"{row.name} takes {percent(r.estimate)} less time than the baseline (at least {at_least(r.low)}): "
                f"with --baseline {row.name} the others save less"
            )


def _shares_text(shares: Sequence[tuple[str, float]]) -> str:
    """``90 % (a, b), 88 % (c)``"""
    names: dict[str, list[str]] = {}
    for name, share in sorted(shares, key=lambda item: item[1]):
        names.setdefault(percent(100 * share, 0), []).append(name)
    return ", ".join(f"{share} ({', '.join(group)})" for share, group in names.items())


def _interference(interference: Interference, verdict: str) -> Iterator[str]:
    throttled = interference.reasons.get(QUOTA, 0)
    if throttled > OFTEN * interference.samples:
        share = percent(100 * throttled / interference.samples, 0)
        yield f"the CPU quota of the control group held back {share} of the samples: take fewer --threads"
    if interference.flagged_pairs > MOSTLY * interference.pairs:
        share = percent(100 * interference.share, 0)
        yield f"{share} of the pairs of samples were affected by interference: measure again on a quieter machine"
    if interference.verdict is not None and interference.verdict != verdict:
        without = count(interference.flagged_pairs, "affected pair")
        why = (interference.headline or "").partition(": ")[2]
        yield f"the verdict is {verdict}, but {interference.verdict} without {without} of {interference.pairs} ({why})"
