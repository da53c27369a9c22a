"""How often the verdict on two own commands is wrong: real runs of the demo with commands alone and a known truth.

    python scripts/validity/own_commands.py slower --runs 10      the baseline takes 1.25 times as long, by a sleep
    python scripts/validity/own_commands.py equal --runs 20       both are the same command: nothing may be confirmed
    python scripts/validity/own_commands.py show

Each run is a whole `bench run` in one of the modes (``--modes case,server,folder``). A command sleeps for a while and
copies the mask of the truth. How much longer the slower one must sleep is measured first; what that came to is read
from the samples of the run. Outcomes are appended to ``--out`` (a line of JSON each) and are not measured again.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.cli.main import main as bench
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED
from reports.records.record import CONFIRMATION, Sample
from reports.records.store import read_run
from reports.summary.summarise import summarise

PREDICTOR = Path(__file__).parents[2] / "tests" / "bench" / "commands" / "predictor.py"
REST = {"case": "{mask} {image}", "server": "", "folder": "{images_dir} {masks_dir}"}
VERDICTS = (CONFIRMED, REFUTED, INCONCLUSIVE)


def command(name: str, mode: str, seconds: float) -> list[str]:
    line = f"{sys.executable} -I -S {PREDICTOR} classless {seconds} {mode} {REST[mode]}"
    return ["--command", f"{name}:{mode}={line}"]


def measure(mode: str, cases: int, sleep: float, extra: float, seed: int) -> dict[str, Any]:
    """One run of two commands, of which the baseline sleeps `extra` seconds longer in each case."""
    with tempfile.TemporaryDirectory() as folder, io.StringIO() as printed:
        arguments = ["run", "--device", "cpu", "--max-cases", str(cases), "--seed", str(seed), "--out", f"{folder}/run"]
        arguments += ["--baseline", "old", *command("old", mode, sleep + extra), *command("new", mode, sleep)]
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            code = bench(arguments)
        if code not in (0, 1, 3):
            raise SystemExit(printed.getvalue())
        run = read_run(Path(folder) / "run")
    summary = summarise(run)
    row = next(row for row in summary.rows if row.name == "new")
    speed = summary.confirmation or row.case
    timed = [s for s in run.variant("old").samples if s.phase == CONFIRMATION] or list(run.variant("old").samples)
    return {
        "verdict": summary.verdict,
        "row": row.verdict,
        "true": 100 * mean(_slept(sample, extra) for sample in timed),
        "estimate": speed.reduction.estimate,
        "low": speed.reduction.low,
        "high": speed.reduction.high,
        "rounds": summary.rounds,
        "seconds": max(s.started_unix_s for s in timed) - min(s.started_unix_s for s in run.variant("old").samples),
        "reasons": list(summary.reasons),
    }


def _slept(sample: Sample, extra: float) -> float:
    """Share of a sample's time that the extra sleep of its cases took."""
    return len(sample.subtypes) * extra / (sample.case_ns * 1e-9)


def seconds_of_a_case(mode: str, cases: int, sleep: float) -> float:
    """Of a command that sleeps so long, in the median; of a call its share."""
    with tempfile.TemporaryDirectory() as folder, io.StringIO() as printed:
        arguments = ["run", "--device", "cpu", "--max-cases", str(cases), "--rounds", "3", "--out", f"{folder}/run"]
        arguments += ["--baseline", "old", *command("old", mode, sleep)]
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            bench(arguments)
        samples = read_run(Path(folder) / "run").variant("old").samples
    return median(sample.case_ns * 1e-9 / len(sample.subtypes) for sample in samples)


def show(out: Path) -> None:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in out.read_text().splitlines():
        run = json.loads(line)
        groups[run["what"], run["mode"]].append(run)
    head = ["commands", "mode", "runs", *VERDICTS, "true, median", "half-width, median", "truth within the bounds"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for (what, mode), runs in sorted(groups.items()):
        verdicts = Counter(run["verdict"] for run in runs)
        half = median((run["high"] - run["low"]) / 2 for run in runs)
        within = sum(run["low"] <= run["true"] <= run["high"] for run in runs)
        cells = [what, mode, len(runs), *(verdicts[name] for name in VERDICTS)]
        cells += [f"{median(run['true'] for run in runs):.1f} %", f"{half:.2f} points", f"{within} of {len(runs)}"]
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("slower", "equal", "show"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--modes", default=",".join(REST))
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--sleep", type=float, default=0.1, help="seconds of the faster command in a case")
    parser.add_argument("--out", type=Path, default=Path("own_commands.jsonl"))
    options = parser.parse_args()
    if options.what == "show":
        show(options.out)
        return
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for mode in options.modes.split(","):
        extra = None
        for number in range(options.runs):
            place = {"what": options.what, "mode": mode, "number": number, "cases": options.cases}
            if any(place.items() <= run.items() for run in done):
                continue
            if extra is None:
                slower = options.what == "slower"
                extra = seconds_of_a_case(mode, options.cases, options.sleep) / 4 if slower else 0.0
            run = place | measure(mode, options.cases, options.sleep, extra, number)
            with options.out.open("a") as file:
                file.write(json.dumps(run) + "\n")
            print(f"{options.what} {mode} #{number}: {run['verdict']}, {run['estimate']:.2f} [{run['low']:.2f}, "
                  f"{run['high']:.2f}] %, true {run['true']:.2f} %, {run['seconds']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
