"""The figure in docs/explanation/validity.md: how often a true reduction of the case time is CONFIRMED.

    python scripts/validity/plot_power.py        writes docs/explanation/power.svg

Lines are simulated runs (docs/results/claims/simulated.csv: what `simulate_claims.py` printed, as counts), points real
ones (those of `real_claims.py` in the same folder) at their true reduction, with the 95 % interval of Wilson (1927) as
scipy has it.
"""

import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import binomtest

from reports.decision.verdict import CONFIRMED

ROOT = Path(__file__).parents[2]
CLAIMS = ROOT / "docs/results/claims"
CLAIM = 10.0  # %, the default


def simulated(axes: Axes) -> None:
    table = pd.read_csv(CLAIMS / "simulated.csv")
    for (cases, start_sd), rows in table.groupby(["cases", "start_sd"]):
        label = f"simulated, {cases} cases, starts of {100 * start_sd:.1f} %"
        axes.plot(rows.reduction, 100 * rows.confirmed / rows.runs, marker=".", label=label)


def real(axes: Axes, seconds: int, marker: str, beside: int, names: tuple[str, ...]) -> None:
    groups = defaultdict(list)
    for name in names:
        for line in (CLAIMS / name).read_text().splitlines():
            one = json.loads(line)
            groups[one["reduction"]].append(one)
    for number, found in enumerate(groups.values()):
        hits = sum(one["verdict"] == CONFIRMED for one in found)
        true = sum(one["true"] for one in found) / len(found)
        rate = 100 * hits / len(found)
        bounds = binomtest(hits, len(found)).proportion_ci(method="wilson")
        label = f"real, 16 cases, {seconds} s of duels, with 95 % bounds" if number == 0 else None
        around = [[max(0.0, rate - 100 * bounds.low)], [max(0.0, 100 * bounds.high - rate)]]
        axes.errorbar(true, rate, yerr=around, fmt=marker, color="black", capsize=3, label=label)
        axes.annotate(
            f"{hits} of {len(found)}", (true, rate), textcoords="offset points", xytext=(beside, 4), fontsize=8
        )


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "voxbench"  # the same file from the same figures
    figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
    simulated(axes)
    real(axes, 60, "s", 6, ("demo-cpu-keep.jsonl", "demo-cpu-power.jsonl"))
    real(axes, 200, "o", -34, ("demo-cpu-200.jsonl",))
    axes.axvline(CLAIM, color="grey", linestyle=":", label="what is claimed")
    axes.set(
        xlabel="true reduction of the case time, %", ylabel="CONFIRMED, % of runs", ylim=(-3, 106), xlim=(-2.5, 27)
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(ROOT / "docs/explanation/power.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
