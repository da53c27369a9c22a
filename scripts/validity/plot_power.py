"""The figure in docs/explanation/validity.md: how often a true reduction of the case time is CONFIRMED.

    python scripts/validity/plot_power.py    writes docs/explanation/power.svg; needs pip install ".[plots]"

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
        label = f"simulated, {cases} cases, launches differ by {100 * start_sd:.1f} %"
        axes.plot(rows.reduction, 100 * rows.confirmed / rows.runs, marker=".", label=label)


def real(axes: Axes, seconds: int, marker: str, beside: int, names: tuple[str, ...]) -> None:
    groups = defaultdict(list)
    for name in names:
        for line in (CLAIMS / name).read_text().splitlines():
            run = json.loads(line)
            groups[run["reduction"]].append(run)
    for number, runs in enumerate(groups.values()):
        hits = sum(run["verdict"] == CONFIRMED for run in runs)
        true = sum(run["true"] for run in runs) / len(runs)
        rate = 100 * hits / len(runs)
        bounds = binomtest(hits, len(runs)).proportion_ci(method="wilson")
        label = f"real, 16 cases, {seconds} s of measuring, with 95 % bounds" if number == 0 else None
        around = [[max(0.0, rate - 100 * bounds.low)], [max(0.0, 100 * bounds.high - rate)]]
        axes.errorbar(true, rate, yerr=around, fmt=marker, color="black", capsize=3, label=label)
        axes.annotate(
            f"{hits} of {len(runs)}", (true, rate), textcoords="offset points", xytext=(beside, 4), fontsize=8
        )


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "voxbench"  # the same file from the same figures
    figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
    simulated(axes)
    real(axes, 60, "s", 6, ("demo-cpu-keep.jsonl", "demo-cpu-power.jsonl"))
    real(axes, 200, "o", -34, ("demo-cpu-200.jsonl",))
    axes.axvline(CLAIM, color="grey", linestyle=":", label="the claim")
    axes.set(
        xlabel="true reduction of the case time, %", ylabel="CONFIRMED, % of runs", ylim=(-3, 106), xlim=(-2.5, 27)
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(ROOT / "docs/explanation/power.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
