"""Where the variants of a run stand while it goes on: quick figures for the eye, without bounds."""

from collections.abc import Collection, Mapping
from math import exp, log
from statistics import median

from bench.progress import Standing
from bench.schedule.store import RunStore
from reports.decision.speed import case_ns, pairs
from reports.formatting import count
from reports.records.record import CONFIRMATION, INTERLEAVED, OK, PENDING, SKIPPED, RunRecord, VariantRecord
from reports.records.store import Run


def standings(
    record: RunRecord, store: RunStore, waiting: Collection[str], accuracy: Mapping[str, str]
) -> tuple[Standing, ...]:
    """A row for each variant that is not skipped: the baseline first, then by speedup, then what has no sample yet.

    Args:
        waiting: variants that are left out of rounds for now.
        accuracy: the states of those whose accuracy is known.
    """
    run = store.run(record)
    rows = [
        Standing(
            name=name,
            state=_state(variant, len(record.cases), name in waiting),
            speedup=1.0 if name == record.baseline else _speedup(run, name),
            accuracy="reference" if name == record.baseline else accuracy.get(name, ""),
        )
        for name, variant in store.records.items()
        if variant.status != SKIPPED
    ]
    return tuple(sorted(rows, key=lambda row: (row.name != record.baseline, -(row.speedup or 0.0))))


def _speedup(run: Run, name: str) -> float | None:
    """The median over the pairs of the rounds; None before there is one."""
    ratios = [log(case_ns(baseline) / case_ns(own)) for baseline, own in pairs(run, name, INTERLEAVED)]
    return exp(median(ratios)) if ratios else None


def _state(variant: VariantRecord, cases: int, waits: bool) -> str:
    if variant.status not in (PENDING, OK):
        return variant.status
    had = [sample.phase for sample in variant.samples]
    if had.count(CONFIRMATION):
        return f"confirming: {count(had.count(CONFIRMATION), 'sample')}"
    if variant.left:
        return f"left: {variant.left.partition(' after ')[0].partition(':')[0]}"
    if had.count(INTERLEAVED):
        number = had.count(INTERLEAVED)
        done = f"{number} of {cases} cases" if number <= cases else count(number, "sample")
        return f"waits: {done}" if waits else done
    return "not built yet" if variant.build_s is None else f"built in {variant.build_s:.0f} s"
