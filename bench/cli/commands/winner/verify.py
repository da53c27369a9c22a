"""`bench verify`."""

import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from bench.cli.commands.check import exit_code, print_verdict
from bench.cli.exit_codes import DONE, REFUTED
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.package.measure import measure
from bench.package.proof import unproven
from bench.package.verify import Verification, verify
from bench.plan.request import Request
from bench.progress import Progress
from bench.schedule.run_directory import write_text
from reports.records.package import PackageRecord
from reports.records.store import read_run
from reports.render import render
from reports.summary.summarise import summarise

_MARKS = {True: "ok", False: "FAILED", None: "note"}


_OF_DATA = {"split": "--split", "max_cases": "--max-cases", "budget_s": "--budget", "out": "--out"}


def execute(options: Namespace) -> int:
    _refuse_without_data(options)
    with progress(sys.stderr) as shown:
        seen = verify(options.package, options.device, options.threads, options.timeout_s, shown, options.trust)
        print(text(seen), flush=True)
        if not seen.passed:
            return REFUTED
        return DONE if options.data is None else _measured(options, seen.record, shown)


def _refuse_without_data(options: Namespace) -> None:
    typed = [option for name, option in _OF_DATA.items() if getattr(options, name) is not None]
    if options.data is None and typed:
        raise InputError(f"{typed[0]}: says how cases are timed; name them with --data DIR, or leave it out")


def text(seen: Verification) -> str:
    """For the terminal."""
    record = seen.record
    lines = [f"{record.variant}: {record.settings}", f"  {record.proof.headline} (run {record.proof.run})"]
    lines += [f"  {line}" for line in [unproven(record)] if line]
    lines += [f"{_MARKS[finding.passed]:<6}  {finding.what}: {finding.text}" for finding in seen.findings]
    lines.append(
        "verified" if seen.passed else "NOT verified: the package does not do here what it did where it was made"
    )
    return "\n".join(lines)


def _measured(options: Namespace, record: PackageRecord, shown: Progress) -> int:
    asked = Request(
        data=options.data, split=options.split or Request.split, max_cases=options.max_cases,
        budget_s=options.budget_s,
        timeout_s=options.timeout_s, threads=options.threads, device=options.device, command=options.typed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="voxbench-") as scratch:
        folder = measure(options.package, record, asked, Path(scratch) / "verification", shown)
        summary = summarise(read_run(folder))
    print_verdict(summary)
    if options.out is not None:
        write_text(options.out, render(summary, "markdown"))
    return exit_code(summary)
