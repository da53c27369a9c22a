"""Whether a race changes the answer: the demo run with and without it, one after the other, time and again.

    python scripts/validity/paired_races.py [--runs 10] [--backends all]

A pair is two whole `bench run`, one with ``--race on`` and one with ``--race off``, of the same seed and in random
order. A pair takes some 25 minutes on two cores, which must be idle. Pairs are appended to ``--out`` (a line of JSON
each) and are not run again: interrupted, it goes on where it was. `scripts/fill_tables.py` makes a table of those in
docs/results/claims.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import host
from reports.records.store import read_run
from reports.summary.summarise import summarise

CLAIM_IS_DECIDED = (0, 1, 3)  # exit codes of `bench run`


def outcome(race: str, seed: int, backends: str) -> dict[str, Any]:
    """Winner, verdict and reduction of the case time in per cent, with the seconds that the whole command took."""
    with tempfile.TemporaryDirectory() as folder:
        out, begun = Path(folder) / "run", time.monotonic()
        words = ["run", "--backends", backends, "--race", race, "--seed", str(seed), "--out", str(out)]
        ended = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True)
        if ended.returncode not in CLAIM_IS_DECIDED:
            raise SystemExit(ended.stderr)
        seconds = time.monotonic() - begun
        run = read_run(out)
        summary = summarise(run)
    confirmed = summary.confirmation
    return {
        "winner": summary.subject,
        "verdict": summary.verdict,
        "reduction": confirmed.reduction.estimate if confirmed else None,
        "low": confirmed.reduction.low if confirmed else None,
        "samples": sum(len(variant.samples) for variant in run.variants),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--backends", default="all")
    parser.add_argument("--out", type=Path, default=Path("paired_races.jsonl"))
    options = parser.parse_args()
    done = {json.loads(line)["seed"] for line in options.out.read_text().splitlines()} if options.out.exists() else {}
    for seed in range(options.runs):
        if seed in done:
            continue
        order = random.Random(seed).sample(("on", "off"), 2)
        pair: dict[str, Any] = {"seed": seed, **{race: outcome(race, seed, options.backends) for race in order}}
        machine = host.describe("cpu")
        pair |= {"first": order[0], "processor": f"{machine.processor}; {machine.cpu_features}"}
        with options.out.open("a") as file:
            file.write(json.dumps(pair) + "\n")
        same = all(pair["on"][what] == pair["off"][what] for what in ("winner", "verdict"))
        print(f"seed {seed}: {pair['on']['winner']}, {pair['on']['verdict']}; {'the same' if same else 'another'} "
              f"without the race", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
