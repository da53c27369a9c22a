"""The report's diagnostics: drift, order effects and autocorrelation of the samples."""

from reports import formatting
from reports.formatting import count
from reports.render.commonmark import bullets, section, text
from reports.summary.summary import Summary


def diagnostics_section(summary: Summary) -> str:
    """Drift, order effects and autocorrelation."""
    drift, order = summary.diagnostics.drift, summary.diagnostics.order
    lags = summary.diagnostics.autocorrelation
    lines = []
    if drift:
        lines.append(
            f"Drift of the baseline: {drift.pct_over_run:+.2g} % over the {60 * drift.hours:.3g} minutes "
            f"(p = {drift.p:.2g})."
        )
    if order:
        name, effect = min(order.items(), key=lambda item: item[1].p_holm)
        lines.append(
            f"Position within a round: the clearest of {count(len(order), 'variant')} is {text(name)}, "
            f"{formatting.percent(effect.range_pct)} between its {effect.positions} positions "
            f"(p = {effect.p_holm:.2g} by Kruskal and Wallis, adjusted by Holm)."
        )
    if lags:
        name, lag = max(lags.items(), key=lambda item: abs(item[1].lag1))
        lines.append(
            f"Autocorrelation of the log ratios from sample to sample: at most {lag.lag1:+.2f} ({text(name)}; standard "
            f"error {lag.standard_error:.2f})."
        )
    if summary.shards:
        lines.append("Drift: in the reports of the shards, which have a time line each.")
    elif not lines and summary.measured:
        lines.append("Drift, order effects and autocorrelation: not measured, as they take at least two rounds.")
    return section("Diagnostics", bullets(lines)) if lines else ""
