"""Fill the tables of the documents from the committed runs, between ``<!-- table: NAME -->`` and ``<!-- end -->``.

python scripts/fill_tables.py        writes README.md and docs/**/*.md (`make docs`)

Before that the report, its picture and the table of cases of each run are written anew, by today's renderers.
"""

import csv
import json
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import floor
from pathlib import Path
from statistics import median
from typing import Any

from reports.decision.accuracy import DSC, MACRO_F1, MetricKey
from reports.decision.speed import Speed
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED
from reports.formatting import NOT_MEASURED, bounded, bounds, change, factor, plain_percent, rate, seconds, share
from reports.records.record import OK
from reports.records.store import read_run
from reports.render import markdown_files
from reports.render.csv_tables import cases_csv
from reports.summary.summarise import summarise
from reports.summary.summary import Row, Summary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
NUMBER = re.compile(r"([-+±]?[\d.,]+( [%a-z]+|x|e-\d+)*( \[.+\]| \(.+\))?|baseline|not measured)?")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
RUNS: dict[str, dict[str, str]] = tomllib.loads((RESULTS / "runs.toml").read_text(encoding="utf-8"))
MACHINES = ("peers", "peers-width32-coarse", "peers-width32-vnni", "bodies-width32", "gpu-h100-first")
WITH_PEERS = ("peers", "peers-width32-coarse", "peers-width32-vnni", "bodies-width32", "gpu-h100-first")
WITH_RECIPES = ("peers", "peers-width32-7bit", "peers-width32-coarse", "peers-width32-vnni", "abdomen-16")
CHANGES = ("lesion DSC", "macro-F1")
PEERS = ("peer-monai-fp32", "peer-monai-amp", "peer-nnunet", "peer-script")

Cells = Sequence[str]
Table = tuple[Cells, Iterable[Cells]]


@cache
def summary_of(name: str) -> Summary:
    return summarise(read_run(RESULTS / name))


def link(name: str, page: Path) -> str:
    """The run's name, leading from the page to its report."""
    return f"[{name}]({os.path.relpath(RESULTS / name / 'report.md', page.parent)})"


def volumes(name: str) -> str:
    command = summary_of(name).record.command
    return "whole bodies" if "--demo abdomen" in command else "heads" if "--demo brain" in command else "pancreases"


def headline(name: str) -> Speed | None:
    """The speed of the run's variant: on fresh samples, or on the interleaved ones where there are none."""
    summary = summary_of(name)
    return summary.speed if summary.compared else None


def variant_of(name: str) -> str:
    """Whose speed `headline` is: the best variant, or the fastest where none meets the claim."""
    return f"`{own.name}`" if (own := summary_of(name).compared) else "none"


def cases(name: str, what: str = "") -> str:
    """``16 (time: 5)`` where the headline rests on fewer cases than the run has."""
    summary = summary_of(name)
    fewer = f" (time: {summary.speed.cases})" if summary.confirmed_on_fewer else ""
    return f"{summary.cases}{what and f' {what}'}{fewer}"


def reduction(speed: Speed | None) -> str:
    return bounded(speed.reduction.estimate, speed.reduction.low, speed.reduction.high) if speed else NOT_MEASURED


def times(speed: Speed) -> str:
    """``5.05x [4.43, 5.82]``"""
    ratio = speed.speedup
    return factor(ratio.estimate) + bounds(ratio.low, ratio.high, 2)


def measured(name: str) -> list[Row]:
    """What ran, but for the baseline and the reference pipelines."""
    return [row for row in summary_of(name).rows if row.status == OK and not (row.is_baseline or row.is_peer)]


def against(name: str, peer: str) -> str:
    summary = summary_of(name)
    if peer == summary.record.baseline:
        speed = headline(name)
        return times(speed) if speed else NOT_MEASURED
    ratios = [times(each.time) for each in summary.peers if each.name == peer and each.time.cases]
    return ratios[0] if ratios else NOT_MEASURED


def results_by_machine(page: Path) -> Table:
    head = ("machine", "data", "width", "best variant", "verdict", "case time reduction", "MONAI takes")
    return head, (
        (
            f"{RUNS[name]['machine']} ([run]({os.path.relpath(RESULTS / name / 'report.md', page.parent)}))",
            cases(name, volumes(name)),
            str(summary_of(name).record.checkpoint.width),
            variant_of(name),
            summary_of(name).verdict,
            reduction(headline(name)),
            against(name, "peer-monai-fp32").partition(" ")[0],
        )
        for name in MACHINES
    )


def runs(page: Path) -> Table:
    head = ("run", "what", "machine", "cases", "verdict", "best variant", "case time reduction", "command")
    return head, (
        (
            link(name, page),
            about["what"],
            about["machine"].removeprefix("2 cores, "),
            cases(name),
            summary_of(name).verdict,
            variant_of(name),
            reduction(headline(name)),
            f"`{re.sub(r' --out [^ ]+', '', summary_of(name).record.command)}`",
        )
        for name, about in RUNS.items()
    )


def changes(row: Row) -> Cells:
    """What the variant does to the scores in `CHANGES`."""
    return tuple(change(row.accuracy.metric(key).delta.estimate) for key in (MetricKey(DSC, "lesion"), MACRO_F1))


def demo(_: Path) -> Table:
    head = ("variant", "verdict", "case time reduction", "case, median", *CHANGES)
    baseline = next(row for row in summary_of("peers").rows if row.is_baseline)
    return head, (
        (f"`{baseline.name}`", "baseline", "", seconds(baseline.latency.median), "", ""),
        *(
            (f"`{row.name}`", row.verdict or "", reduction(row.case), seconds(row.latency.median), *changes(row))
            for row in measured("peers")
        ),
    )


def peers(page: Path) -> Table:
    head = ("run", "machine", "our variant", *(f"`{peer}`" for peer in PEERS))
    return head, (
        (link(name, page), RUNS[name]["machine"], f"`{summary_of(name).subject}`", *(against(name, p) for p in PEERS))
        for name in WITH_PEERS
    )


def recipes(page: Path) -> Table:
    head = ("run", "recipe", "verdict", "speedup", *CHANGES)
    return head, (
        (
            link(name, page),
            f"`{row.name}`",
            row.verdict or "",
            times(row.case),
            *changes(row),
        )
        for name in WITH_RECIPES
        for row in measured(name)
        if row.name in summary_of(name).record.settings.recipes
    )


def rewrites(_: Path) -> Table:
    return ("variant", "case time reduction", "speedup"), (
        (f"`{row.name}`", reduction(row.case), times(row.case)) for row in measured("rewrites")
    )


def beside(names: Sequence[str], heads: Cells) -> Table:
    """Reductions in several runs side by side, for the variants that all of them measured."""
    rows = [{row.name: row for row in summary_of(name).rows} for name in names]
    both = [name for name, row in rows[0].items() if all(name in each and each[name].status == OK for each in rows)]
    return ("variant", *heads), (
        (
            f"`{name}`",
            *(
                f"{seconds(each[name].latency.median)} a case" if each[name].is_baseline else reduction(each[name].case)
                for each in rows
            ),
        )
        for name in both
    )


def roofline(page: Path) -> Table:
    head = ("run", "variant", "precision", "forward", "share of the measured limit")
    return head, (
        (link(name, page), f"`{row.name}`", _precision(row), rate(row.roofline.flops), share(row.roofline.share))
        for name in ("peers-width32-coarse", "peers-width32-vnni")
        for row in summary_of(name).rows
        if row.status == OK and not row.is_peer
    )


def _precision(row: Row) -> str:
    assert row.evidence is not None, row.name
    return max(row.evidence.mac_share, key=row.evidence.mac_share.__getitem__)


def cuda(_: Path) -> Table:
    head = ("variant", "status", "forward, median", "forward speedup", "precision")
    return head, (
        (
            f"`{row.name}`",
            row.status,
            seconds(row.forward_latency.median),
            "baseline" if row.is_baseline else factor(row.forward.speedup.estimate),
            _precision(row) if row.status == OK else "",
        )
        for row in summary_of("gpu-h100-first").rows
        if row.status != "skipped" and not row.is_peer
    )


CLAIMS = {
    "demo-cpu-keep": ("A/A", 60), "demo-cpu-power": ("power", 60), "demo-cpu-neighbour": ("neighbour", 60),
    "demo-cpu-200": ("A/A and power", 200), "demo-cpu-neighbour-200": ("neighbour", 200),
}  # fmt: skip


def claims(page: Path) -> Table:
    head = ("experiment", "budget", "true reduction", "runs", *(CONFIRMED, REFUTED, INCONCLUSIVE))
    rows = []
    for name, (what, budget) in CLAIMS.items():
        path = RESULTS / f"claims/{name}.jsonl"
        groups: dict[float, list[dict[str, Any]]] = defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines():
            groups[json.loads(line)["reduction"]].append(json.loads(line))
        for _, group in sorted(groups.items()):
            verdicts = [run["verdict"] for run in group]
            half = median((run["high"] - run["low"]) / 2 for run in group)
            within = sum(run["low"] <= run["true"] <= run["high"] for run in group)
            rows.append((
                f"[{what}]({os.path.relpath(path, page.parent)})", f"{budget} s",
                f"{median(run['true'] for run in group):.1f} %", str(len(group)),
                *(str(verdicts.count(verdict)) for verdict in (CONFIRMED, REFUTED, INCONCLUSIVE)),
                f"{half:.2f} points", f"{within} of {len(group)}",
            ))  # fmt: skip
    return (*head, "half-width, median", "truth within the bounds"), rows


def simulated(_: Path) -> Table:
    columns = (("16", "0.004"), ("36", "0.004"), ("16", "0.017"))
    rates: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    with (RESULTS / "claims/simulated.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rates[row["reduction"]][row["cases"], row["start_sd"]] = (
                f"{100 * int(row['confirmed']) / int(row['runs']):.1f} %"
            )
    heads = (f"{cases} cases, launches differ by {100 * float(spread):.1f} %" for cases, spread in columns)
    return ("true reduction", *heads), (
        (plain_percent(float(true)), *(rate[column] for column in columns)) for true, rate in rates.items()
    )


def history(_: Path) -> Table:
    """False alarms and steps that were found, in `bench history`."""
    rows: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    with (RESULTS / "claims/history.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["noise"], row["sd"]][row["step_pct"]] = row

    def part(row: dict[str, str], name: str) -> str:
        return f"{100 * int(row[name]) / int(row['series']):.1f} %"

    def steps(row: dict[str, str] | None) -> Cells:
        if row is None:
            return ("not measured",) * 2
        return part(row, "found"), f"{float(row['delay_median']):g}, {float(row['delay_p90']):g}"

    head = (
        "noise of a run",
        "false alarms, one look",
        "in any look",
        "5 % found",
        "after runs",
        "10 % found",
        "after runs",
    )
    return head, (
        (
            noise + (f", {100 * float(spread):g} %" if float(spread) else ""),
            part(own["0"], "one_look"), part(own["0"], "any_look"), *steps(own.get("5")), *steps(own.get("10")),
        )
        for (noise, spread), own in rows.items()
    )  # fmt: skip


def shards(_: Path) -> Table:
    """False claims and power of runs in shards, by how much the machines differ."""
    rows: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    with (RESULTS / "claims/shards.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["shards"], row["machine_sd"]][row["reduction"]] = row

    def part(row: dict[str, str], name: str) -> str:
        return f"{100 * int(row[name]) / int(row['runs']):.1f} %"

    head = (
        "shards", "machines differ by", "bound above the truth", "CONFIRMED at the claim, 10 %", "CONFIRMED at 15 %",
        "half-width there",
    )  # fmt: skip
    return head, (
        (
            number, f"{100 * float(spread):g} %", part(own["10"], "above"), part(own["10"], "confirmed"),
            part(own["15"], "confirmed"), f"{own['15']['half_width']} points",
        )
        for (number, spread), own in rows.items()
    )  # fmt: skip


def roi_safety(_: Path) -> Table:
    lines = (RESULTS / "roi-safety.txt").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return rows[0], rows[1:]


def paired_races(_: Path) -> Table:
    lines = (RESULTS / "claims/paired-races.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = sorted(map(json.loads, lines), key=lambda pair: pair["seed"])
    head = ("seed", "with the race", "without it", "minutes with the race", "without it")

    def answer(way: dict[str, Any]) -> str:
        least = floor(10 * way["low"]) / 10
        return f"`{way['winner']}` {way['verdict']} {way['reduction']:.1f} % [{least:.1f}]"

    ways = {pair["seed"]: (pair["on"], pair["off"]) for pair in pairs}
    return head, [
        (str(seed), *map(answer, both), *(f"{way['seconds'] / 60:.1f}" for way in both)) for seed, both in ways.items()
    ]


TABLES: dict[str, Callable[[Path], Table]] = {
    "results-by-machine": results_by_machine, "runs": runs, "demo": demo, "peers": peers, "recipes": recipes,
    "rewrites": rewrites, "roofline": roofline, "cuda": cuda, "claims": claims, "simulated": simulated,
    "roi-safety": roi_safety, "history": history, "shards": shards, "paired-races": paired_races,
    "allocator": lambda _: beside(("allocator-keep", "allocator-system"), ("kept", "given back")),
    "batch": lambda _: beside(("demo-cpu", "demo-cpu-batch2"), ("one tile a pass", "two tiles a pass")),
}  # fmt: skip


def markdown(table: Table) -> str:
    head, rows = table[0], [tuple(row) for row in table[1]]
    columns = zip(*rows, strict=True)
    right = [all(NUMBER.fullmatch(cell) for cell in column) for column in columns]
    lines = [head, ["---:" if each else "---" for each in right], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(page: Path) -> str:
    """The page with its tables made anew."""
    return MARKED.sub(
        lambda match: match[1] + markdown(TABLES[match[2]](page)) + match[3], page.read_text(encoding="utf-8")
    )


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(page for page in ROOT.glob("docs/**/*.md") if page.name != "report.md")]


def write_reports() -> None:
    """Of every committed run. The report of a run that was cut short names its folder, so from the root."""
    os.chdir(ROOT)
    for record in sorted(Path("docs/results").glob("*/run.json")):
        run = read_run(record.parent)
        for name, text in (markdown_files(summarise(run)) | {"cases.csv": cases_csv(run)}).items():
            (record.parent / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_reports()
    for each in pages():
        each.write_text(filled(each), encoding="utf-8")
