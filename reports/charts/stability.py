"""How stable the ranking is: the rank of each variant over the bootstrap, as reports of challenges show it."""

from reports.analysis.ranking import Ranking, rank
from reports.charts.figure import OTHER, WINNER, Chart, canvas, chart
from reports.charts.marks import beside, plain
from reports.formatting import count, listed
from reports.stats.bootstrap import RESAMPLES
from reports.summary.summary import Summary

NAME = "stability"
_AREA = 170.0  # square points of a rank that a variant has in every resample


def stability_chart(summary: Summary) -> Chart | None:
    """A blob for each rank of each variant, its area the share of the resamples; None where nothing can be ranked."""
    ranking = rank(summary.run)
    if ranking is None:
        return None
    size = len(ranking.names)
    with canvas(0.8 + 0.27 * size) as (figure, axes):
        for i, shares in enumerate(ranking.shares):
            shown = [(at, share) for at, share in enumerate(shares, 1) if share]
            areas = [_AREA * share for _, share in shown]
            axes.scatter([at for at, _ in shown], [i] * len(shown), areas, color=OTHER, edgecolor=WINNER, linewidth=1)
            beside(axes, i, _most_often(shares))
        axes.set_yticks(range(size), [plain(name) for name in ranking.names])
        axes.set_ylim(size - 0.4, -0.6)
        axes.set_xticks(range(1, size + 1))
        axes.set_xlim(0.4, size + 0.6)
        axes.set_xlabel("rank by time (1: the fastest)")
        axes.tick_params(axis="y", length=0)
        axes.grid(linewidth=0.6)
        axes.set_axisbelow(True)
        return chart(figure, NAME, "How stable the ranking is", _words(ranking))


def _most_often(shares: tuple[float, ...]) -> str:
    """``rank 1 in 98 %, 1 to 2``: the most frequent, and the range of all."""
    drawn = [at for at, share in enumerate(shares, 1) if share]
    most = max(range(len(shares)), key=shares.__getitem__)
    ends = f"{drawn[0]} to {drawn[-1]}" if len(drawn) > 1 else "no other"
    share = shares[most]
    percent = "100" if share == 1 else f"{min(99.9, 100 * share):.1f}"
    return f"rank {most + 1} in {percent} % ({ends})"


def _words(ranking: Ranking) -> str:
    each = [f"{plain(name)} {_most_often(shares)}" for name, shares in zip(ranking.names, ranking.shares, strict=True)]
    left = (
        f" Left out, as they did not run all of these cases one by one: {listed(list(map(plain, ranking.left_out)))}."
    )
    return (
        f"The variants ranked by time in {RESAMPLES:,} resamples of the {count(ranking.cases, 'case')}, drawn for all "
        "variants together; the larger a blob, the more often the variant had that rank. Of each the most frequent "
        f"rank, and the range of those it had: {listed(each, '; ')}.{left * bool(ranking.left_out)} Other launches "
        "of the processes are not in it."
    )
