"""`bench run`, and `bench plan`, which declares one."""

import io
import shlex
import sys
from argparse import Namespace
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from bench import declare, run
from bench.choices import PLAN_FILE
from bench.cli.commands.check import exit_code, print_verdict
from bench.cli.exit_codes import DONE
from bench.cli.options import beside_plan, beside_resume, parser
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.merge.on_nodes import run_on_nodes
from bench.plan.declaration import ANEW, Declaration, read_declaration
from bench.plan.request import Request
from bench.schedule.run_directory import LATEST
from reports.formatting import command_line, count, listed, percent
from reports.records.store import read_run
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    if options.command == "plan" or (options.plan_only and options.plan is None):
        return _declare(options)
    _refuse_pilot(options)
    with progress(sys.stderr) as shown:
        if options.plan is not None:
            request, declaration = _declared(options)
            folder = run.run(request, options.out, shown, declaration=declaration)
        elif options.resume and options.ray is not None:
            raise InputError("--resume: with --ray the same command without it goes on with the shards that are done")
        elif options.resume:
            _refuse_beside_resume(options.typed)
            folder = run.resume(options.out or LATEST, shown)
        elif options.ray is not None:
            folder = run_on_nodes(Request.of(options), options.ray, options.out, shown)
        else:
            folder = run.run(Request.of(options), options.out, shown)
    summary = summarise(read_run(folder))
    print_verdict(summary)
    print(f"Report: {folder / 'report.md'}")
    return exit_code(summary)


def _refuse_pilot(options: Namespace) -> None:
    if options.pilot is not None and options.plan is None and not options.resume:  # which refuse it as they do others
        option = "--pilot" if options.pilot else "--no-pilot"
        raise InputError(f"{option}: only a plan has a pilot, and this is a run; leave it out, or add --plan-only")


def _refuse_beside_resume(typed: str) -> None:
    others = beside_resume(shlex.split(typed)[1:])
    if others:
        option = others[0].partition("=")[0]
        raise InputError(
            f"{option}: --resume goes on with a run as it began, and only --out may stand beside it; leave it out"
        )


def _declare(options: Namespace) -> int:
    for option in ("--resume", "--ray"):  # which `bench plan` does not have
        if getattr(options, option.removeprefix("--"), None):
            raise InputError(f"{option}: --plan-only declares a run and does not begin it; leave one of both out")
    if options.shard is not None:
        raise InputError(
            f"--shard {options.shard}: a plan declares the whole run, of which `bench run --plan FILE --shard I/N` "
            "then runs a shard; leave --shard out here"
        )
    arguments, out = shlex.split(options.typed)[1:], options.out or Path(PLAN_FILE)
    with progress(sys.stderr) as shown:
        declaration = declare.declare(Request.of(options), arguments, out, shown, with_pilot=options.pilot is not False)
    print(f"Plan: {out}, sha256 {declaration.sha256}")
    for line in _forecast_lines(declaration.document["forecast"]):
        print(f"  {line}")
    print(f"To run it: {command_line('bench', 'run', '--plan', out)}")
    return DONE


def _declared(options: Namespace) -> tuple[Request, Declaration]:
    """What a plan asks for: the options that it was declared with, read again."""
    others = beside_plan(shlex.split(options.typed)[1:])
    if others:
        raise InputError(
            f"{others[0].partition('=')[0]}: the plan {options.plan} says what is measured, and only --out and --shard "
            f"may stand beside --plan; leave it out, or {ANEW}"
        )
    declaration, problem = read_declaration(options.plan), io.StringIO()
    try:
        with redirect_stderr(problem):
            declared = parser().parse_args(declaration.options)
    except SystemExit:
        raise InputError(f"{options.plan}: its options cannot be used ({problem.getvalue().strip()}); {ANEW}") from None
    if declared.command not in ("plan", "run"):
        raise InputError(f"{options.plan}: its options are those of `bench {declared.command}`; {ANEW}")
    declared.typed, declared.shard = options.typed, options.shard
    return Request.of(declared), declaration


def _forecast_lines(forecast: dict[str, Any]) -> list[str]:
    """What a person wants to know before waiting for a run."""
    if "duration" not in forecast:
        return [f"no forecast: {forecast['from']}"]
    ends = (forecast["duration"][end]["seconds"] / 60 for end in ("least", "most"))
    minutes = " to ".join(dict.fromkeys(f"{end:.1f}" for end in ends))
    planned, name = forecast["planned"]["cases"], forecast["fastest"]
    lines = [f"expected on this machine: {minutes} min (from {forecast['from']})"]
    if name is not None:
        own, cases = forecast["variants"][name], forecast["cases_needed"]
        unknown = listed([what for what, number in own["cases_for"].items() if number is None])
        need = f"no number of cases is known to do for {unknown}"
        if cases:
            need = f"{count(cases, 'case')} would confirm the claim"
        lines.append(
            f"{name} saved {percent(own['reduction_pct'])} of the case time there: with a power of "
            f"{100 * forecast['power']:.0f} % {need} ({planned} are planned)"
        )
    for name, own in forecast["variants"].items():
        if own["status"] != "ok":
            lines.append(f"{name} {own['status']}: {own['reason']}")
    return lines
