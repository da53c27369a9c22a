"""The history of a project's runs as one self-contained page."""

from reports.charts.history import trend_chart
from reports.decision.history import History, Series
from reports.render.page import figure, from_markdown
from reports.render.several import history_markdown as markdown
from reports.render.several.frame import answered


def render(history: History) -> str:
    """The answer, then of each series its table and a chart for each variant; every run is folded."""
    state = "lost" if markdown.fell(history) else "kept" if any(history.steps) else "none"
    rest = "\n\n".join(part for part in (markdown.left_out(history), markdown.NOTE) if part)
    series = (_series(series, number) for number, series in enumerate(history.series))
    body = "".join([from_markdown(markdown.answer(history)), *series, from_markdown(rest)])
    return answered(markdown.headline(history), state, body)


def _series(series: Series, number: int) -> str:
    charts = [
        trend_chart(series, trend, f"trend-{number + 1}-{place + 1}") for place, trend in enumerate(series.trends)
    ]
    return (
        from_markdown(markdown.series_head(series, number))
        + "".join(figure(chart) for chart in charts if chart)
        + from_markdown(markdown.every_run(series))
    )
