"""The report's case times: how they spread, where they go, and what came over them during the run."""

from math import isfinite, nan

from reports import formatting
from reports.analysis.latency import FEWEST_SIZES, TileFit
from reports.formatting import NOT_MEASURED, count
from reports.records.record import STAGES
from reports.render.commonmark import bullets, section, table, text
from reports.summary import Row, Summary


def latency(summary: Summary) -> str:
    """Percentiles, spread between cases, and dependence on the number of tiles."""
    rows = [row for row in summary.measured if row.case.cases]
    if not rows:
        return ""
    head = ["backend", "p50", "p90", "p95", "p99", "fastest to slowest case", "variation", "without tiles", "each tile",
            "r²"]  # fmt: skip
    cells = [
        [
            text(row.name),
            *(formatting.seconds(getattr(row.latency, name)) for name in ("median", "p90", "p95", "p99")),
            f"{formatting.seconds(row.spread.fastest_s)} to {formatting.seconds(row.spread.slowest_s)}",
            formatting.percent(100 * row.spread.variation), *_fit(row.tile_fit),
        ]
        for row in rows
    ]  # fmt: skip
    note = (
        "Percentiles of the case time over all samples; the cases' own medians from the fastest to the slowest with "
        "their coefficient of variation; and a straight line through these medians over the number of tiles: what a "
        f"case takes without any, and each tile. It needs cases of at least {FEWEST_SIZES} different numbers of tiles."
    )
    return section("Case times", table(head, cells), note)


def _fit(found: TileFit) -> list[str]:
    if found.sizes < FEWEST_SIZES:
        return ["not fitted"] * 3
    return [formatting.seconds(found.intercept_s), formatting.seconds(found.slope_s), f"{found.r2:.3f}"]


def course(summary: Summary) -> str:
    """Drift, order effects and autocorrelation."""
    found = summary.course
    lines = []
    if found.drift:
        lines.append(
            f"Drift of the baseline: {found.drift.pct_over_run:+.2g} % over the duels' {60 * found.drift.hours:.3g} "
            f"minutes (p = {found.drift.p:.2g})."
        )
    if found.order:
        name, effect = min(found.order.items(), key=lambda item: item[1].p_holm)
        lines.append(
            f"Position within a round: the clearest of {count(len(found.order), 'backend')} is {text(name)}, "
            f"{formatting.percent(effect.range_pct)} between its {effect.positions} positions "
            f"(p = {effect.p_holm:.2g} by Kruskal and Wallis, adjusted by Holm)."
        )
    if found.autocorrelation:
        name, lag = max(found.autocorrelation.items(), key=lambda item: abs(item[1].lag1))
        lines.append(
            f"Autocorrelation of the log ratios from sample to sample: at most {lag.lag1:+.2f} ({text(name)}; standard "
            f"error {lag.standard_error:.2f})."
        )
    if not lines and summary.measured:
        lines.append("Drift, order effects and autocorrelation: not measured, as they take at least two rounds.")
    return section("Course of the duels", bullets(lines)) if lines else ""


def stages(summary: Summary) -> str:
    """The stages of a case."""
    rows = [row for row in summary.measured if row.case.cases]
    head = ["backend", *(f"{stage}, ms (share)" for stage in STAGES), "other"]
    note = "Median milliseconds a case in each stage, and its share of all the case time; the rest is other."
    return section("Where the time goes", table(head, [_stage(row) for row in rows]), note) if rows else ""


def _stage(row: Row) -> list[str]:
    cells = [_stage_cell(row.stages_s.get(stage, nan), row.stages_share.get(stage, nan)) for stage in STAGES]
    other = 1 - sum(share for share in row.stages_share.values() if isfinite(share))
    return [text(row.name), *cells, f"{100 * other:.1f} %"]


def _stage_cell(duration: float, share: float) -> str:
    return f"{formatting.milliseconds(duration)} ({100 * share:.1f} %)" if isfinite(duration) else NOT_MEASURED
