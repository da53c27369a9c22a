"""`bench scenario`, and how it shows what was measured."""

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import scenarios
from bench.choices import READ_AHEAD, SCENARIOS
from bench.cli.exit_codes import DONE
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.plan.request import Request
from bench.scenarios import OFFLINE, PERCENTILES, Scenarios, percentile
from bench.schedule.run_directory import write_text
from reports.formatting import count, mebibytes


def execute(options: Namespace) -> int:
    request = Request.of(options)
    wanted = SCENARIOS if options.scenario == "all" else (options.scenario,)
    if options.read_ahead is not None and OFFLINE not in wanted:
        raise InputError(f"--read-ahead: cases are read ahead in {OFFLINE}; leave it out, or add --scenario {OFFLINE}")
    with progress(sys.stderr) as shown, TemporaryDirectory(prefix="voxbench-") as masks:
        read_ahead = options.read_ahead or READ_AHEAD
        result = scenarios.measure(request, options.backend, wanted, read_ahead, Path(masks), shown)
    print(text(result), flush=True)
    if options.out is not None:
        write_text(options.out, json.dumps(document(result), indent=2) + "\n")
    return DONE


def text(result: Scenarios) -> str:
    """For the terminal."""
    threads, cases = count(result.threads, "thread"), count(len(result.cases), "case")
    lines = [f"{result.backend} on {result.device}, {threads}, {cases}"]
    for scenario, timed in result.timed.items():
        forward = f"forward {100 * timed.forward_s / timed.wall_s:.1f} % of the time"
        if scenario == OFFLINE:
            values = f"{len(result.cases) / timed.wall_s:.3f} cases/s, read-ahead {result.read_ahead}"
        else:
            values = ", ".join(f"p{p} {percentile(timed.latencies_s, p):.3f} s" for p in PERCENTILES)
        lines.append(f"{scenario:<13}  {values}, {forward}, {mebibytes(timed.peak_memory_bytes)}")
    if result.masks_equal is not None:
        lines.append("masks: equal in all scenarios" if result.masks_equal else "masks: NOT equal in all scenarios")
    return "\n".join(lines)


def document(result: Scenarios) -> dict[str, Any]:
    """For JSON: raw times, and the figures that follow from them."""
    fields = {"schema": 1, **asdict(result)}
    for scenario, timed in result.timed.items():
        fields["timed"][scenario] |= {
            **{f"p{p}_s": percentile(timed.latencies_s, p) for p in PERCENTILES},
            "cases_per_s": len(result.cases) / timed.wall_s,
            "forward_share": timed.forward_s / timed.wall_s,
        }
    return fields
