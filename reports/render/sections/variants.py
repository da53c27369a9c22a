"""The report's variants: the verdict of each, the confirmation of the best, and those that did not run."""

from reports import formatting
from reports.decision.outcome import WIDEST
from reports.decision.speed import PER_CALL, Speed
from reports.decision.verdict import CONFIRMED, LOST, SHOWN_BY
from reports.formatting import NOT_MEASURED, count
from reports.records.record import FAILED, SKIPPED, ConfirmationRecord
from reports.render.commonmark import bullets, section, table, text, words
from reports.summary.summary import Row, Summary


def variants_section(summary: Summary) -> str:
    rows = [row for row in summary.measured if row.is_baseline or not row.is_peer]
    if not rows:
        return section("Variants", "No variant ran.")
    head = ["variant", "verdict", "case time reduction", "case median", "case p95", "forward median",
            "forward speedup", "build", "peak memory", "evidence"]  # fmt: skip
    note = (
        f"{count(summary.rounds, 'round')} over {count(summary.cases, 'case')}, every sample paired with the "
        "baseline's of the same round and case. *Case*: from the file on disk to mask and class on disk; *forward*: "
        "the engine alone. Brackets hold the lower and the upper bound, each with one-sided 95 % confidence. A row's "
        f"verdict is that of these samples{_multiplicity_note(rows)}."
    )
    doubted = [row for row in rows if row.verdict not in (None, CONFIRMED)]
    why = bullets(f"{text(row.name)} is {row.verdict}: {text(_deciding_reasons(row))}" for row in doubted)
    partial = [text(row.name) for row in rows if row.partial]
    short = f"Measured only in part: {', '.join(partial)}." if partial else ""
    shown = table(head, [_variant_row(row) for row in rows], (0, 1, 9))
    left = bullets(f"{text(row.name)} left the rounds before their end: {text(row.left)}" for row in rows if row.left)
    return section("Variants", shown, note, _calls_note(summary), why, left, short)


def _calls_note(summary: Summary) -> str:
    """Which variants ran all cases in one call, and what follows from that for every pair with them."""
    names = [row.name for row in summary.measured if row.settings.one_call]
    if not names:
        return ""
    return text(
        f"{', '.join(names)}: one call ran all {count(summary.cases, 'case')}, and none of them has a time of its own. "
        "The times are those of calls, each of them against the sum of the other variant's cases in the same round; "
        "the calls are what the bounds rest on, and the processes were launched anew before each."
    )


def _multiplicity_note(rows: list[Row]) -> str:
    """How the rows' speeds were judged together."""
    analysis = next((row.test.analysis for row in sorted(rows, key=lambda row: bool(row.left)) if row.test), None)
    if analysis is None:
        return ""
    holm = f", by Holm's test over {analysis.claims} variants" if analysis.claims > 1 else ""
    return holm + (f" at interim analysis {analysis.number} (level {analysis.alpha:.2g})" if analysis.number else "")


def _deciding_reasons(row: Row) -> str:
    """What decided the verdict: the first reason, and the loss of accuracy where it comes second."""
    lost = f"{SHOWN_BY[row.accuracy.shown_by]} {LOST}"
    return "; ".join((row.reasons[0], *(reason for reason in row.reasons[1:] if reason.startswith(lost))))


def _variant_row(row: Row) -> list[str]:
    r = row.case.reduction
    build = formatting.seconds(row.build_s) + row.of_build
    return [
        text(row.name), "baseline" if row.is_baseline else row.verdict or NOT_MEASURED,
        "reference" if row.is_baseline else formatting.bounded(r.estimate, r.low, r.high),
        row.case_median, formatting.seconds(row.latency.p95) + row.a_call,
        formatting.seconds(row.forward_latency.median),
        "reference" if row.is_baseline else formatting.factor(row.forward.speedup.estimate),
        build, formatting.mebibytes(row.peak_memory_bytes), _evidence_cell(row),
    ]  # fmt: skip


def _evidence_cell(row: Row) -> str:
    if row.evidence is None:
        return NOT_MEASURED
    shares = sorted(row.evidence.mac_share.items(), key=lambda share: -share[1])
    parts = [f"{name} {100 * part:.3g} %" for name, part in shares if part > 0]
    macs = f"{', '.join(parts)} of MACs" if parts else ""
    return text("; ".join(part for part in (row.evidence.provider, macs) if part)) or NOT_MEASURED


def confirmation_section(summary: Summary) -> str:
    confirmation, row = summary.confirmation, summary.row(summary.subject)
    if summary.subject is None or row is None:
        return ""
    if confirmation is None:
        return section("Confirmation", f"{text(summary.subject)} has no confirmation on fresh samples.")
    why = (
        f"{text(summary.subject)} was chosen by the interleaved rounds and then timed again beside the baseline, so "
        "that its figure is free of the luck that helped to choose it. The verdict on the time rests on these samples "
        f"alone; the {SHOWN_BY[summary.claim.accuracy]} is that of the first round."
    )
    head = ["", "case time reduction", "speedup", "cases", "paired samples"]
    rows = [_speed_row("interleaved (chosen by these)", row.case), _speed_row("confirmation (verdict)", confirmation)]
    if confirmation.unit == PER_CALL:
        head = ["", "reduction of a call's time", "speedup", "calls", "paired samples"]
    return section("Confirmation", why, table(head, rows), _planned(summary, row, confirmation))


def _planned(summary: Summary, row: Row, confirmation: Speed) -> str:
    """Why a confirmation did not take all cases in every launch; empty where it did."""
    planned = summary.record.confirmation
    if planned is None or len(planned.of_every_launch) == summary.cases:
        return ""
    taken = "all" if confirmation.cases == summary.cases else f"{confirmation.cases} of the"
    alone = of_launches(planned)
    return (
        f"It took {taken} {count(summary.cases, 'case')}, of all sizes and drawn by the seed{alone}: by "
        f"the interleaved samples, this was expected to give bounds at most {100 * WIDEST:g} % of the baseline's time "
        f"from their middle. The {SHOWN_BY[summary.claim.accuracy]} rests on {_scored(summary, row)}."
    )


def of_launches(planned: ConfirmationRecord) -> str:
    """Which of its cases a confirmation timed in one launch alone, as the end of a sentence; empty where none."""
    if len(planned.of_every_launch) == len(planned.cases):
        return ""
    return f", {len(planned.of_every_launch)} of them in every launch and each of the others in one"


def _scored(summary: Summary, row: Row) -> str:
    """On how many cases its scores rest, which are fewer than all where it left the rounds early."""
    scored = row.accuracy.cases
    return f"all {scored}" if scored == summary.cases else f"{scored} of the {count(summary.cases, 'case')}"


def _speed_row(name: str, speed: Speed) -> list[str]:
    r = speed.reduction
    bounds = formatting.bounded(r.estimate, r.low, r.high)
    return [name, bounds, formatting.factor(speed.speedup.estimate), str(speed.cases), str(speed.pairs)]


def skipped_section(summary: Summary) -> str:
    """The skipped variants with the reason and the remedy."""
    return _unavailable_section(summary, SKIPPED, "Skipped variants", "what enables it")


def failed_section(summary: Summary) -> str:
    """The failed variants, likewise."""
    return _unavailable_section(summary, FAILED, "Failed variants", "what would mend it")


def _unavailable_section(summary: Summary, status: str, title: str, remedy: str) -> str:
    rows = [row for row in summary.rows if row.status == status]
    if not rows:
        return ""
    logs = any(row.log for row in rows)
    head = ["variant", "reason", remedy, *(["log"] if logs else [])]
    return section(title, words(head, [_unavailable_row(row, logs) for row in rows]))


def _unavailable_row(row: Row, logs: bool) -> list[str]:
    cells = [text(row.name), text(row.reason or "no reason recorded"), text(row.fix or "not known")]
    return [*cells, text(row.log or "none")] if logs else cells
