"""The report's case times: how they spread, and where they go."""

from math import isfinite, nan

from reports import formatting
from reports.analysis.latency import FEWEST_SIZES, TileFit
from reports.formatting import NOT_MEASURED
from reports.records.record import STAGES
from reports.render.commonmark import section, table, text
from reports.summary.summary import Row, Summary


def case_times_section(summary: Summary) -> str:
    """Percentiles, spread between cases, and dependence on the number of tiles."""
    rows = [row for row in summary.measured if row.case.cases]
    if not rows:
        return ""
    head = ["variant", "p50", "p90", "p95", "p99", "fastest to slowest case", "variation", "without tiles", "each tile",
            "r²"]  # fmt: skip
    cells = [
        [
            text(row.label),
            *(formatting.seconds(getattr(row.latency, name)) for name in ("median", "p90", "p95", "p99")),
            f"{formatting.seconds(row.spread.fastest_s)} to {formatting.seconds(row.spread.slowest_s)}",
            formatting.percent(100 * row.spread.variation), *_fit_cells(row.tile_fit),
        ]
        for row in rows
    ]  # fmt: skip
    note = (
        "Percentiles of the case time over all samples; the cases' own medians from the fastest to the slowest with "
        "their coefficient of variation; and a straight line through these medians over the number of tiles: what a "
        f"case takes without any, and each tile. It needs cases of at least {FEWEST_SIZES} different numbers of tiles."
    )
    return section("Case times", table(head, cells), note)


def _fit_cells(fit: TileFit) -> list[str]:
    if fit.sizes < FEWEST_SIZES:
        return ["not fitted"] * 3
    return [formatting.seconds(fit.intercept_s), formatting.seconds(fit.slope_s), f"{fit.r2:.3f}"]


def stages_section(summary: Summary) -> str:
    """The stages of a case."""
    rows = [row for row in summary.measured if row.case.cases]
    head = ["variant", *(f"{stage}, ms (share)" for stage in STAGES), "other"]
    note = "Median milliseconds a case in each stage, and its share of all the case time; the rest is other."
    return section("Where the time goes", table(head, [_stages_row(row) for row in rows]), note) if rows else ""


def _stages_row(row: Row) -> list[str]:
    cells = [_stage_cell(row.stages_s.get(stage, nan), row.stages_share.get(stage, nan)) for stage in STAGES]
    other = 1 - sum(share for share in row.stages_share.values() if isfinite(share))
    return [text(row.label), *cells, f"{100 * other:.1f} %"]


def _stage_cell(duration: float, share: float) -> str:
    return f"{formatting.milliseconds(duration)} ({100 * share:.1f} %)" if isfinite(duration) else NOT_MEASURED
