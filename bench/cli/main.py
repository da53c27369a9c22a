"""The command line. This file alone prints and exits."""

import json
import shlex
import signal
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import internal_error
from bench.cli.exit_codes import BACKEND_LOST, BAD_INPUT, DONE, INCONCLUSIVE, INTERNAL_ERROR, INTERRUPTED, REFUTED
from bench.cli.options import parser
from bench.errors import BackendLostError, BenchError, InterruptedRunError
from bench.schedule.run_directory import LATEST

if TYPE_CHECKING:
    from bench.plan.request import Request
    from models.options import ModelOptions
    from reports.summary.summary import Summary

_OURS = ("bench", "engines", "models", "reports")
_EXIT_OF_VERDICT = {"CONFIRMED": DONE, "REFUTED": REFUTED, "INCONCLUSIVE": INCONCLUSIVE}


def main(arguments: list[str] | None = None) -> int:
    """Run `bench` and return its exit code."""
    begun = time.time()
    options = parser().parse_args(arguments)
    options.typed = shlex.join(["bench", *(sys.argv[1:] if arguments is None else arguments)])
    warnings.simplefilter("ignore")  # of the libraries: what matters here is told in plain words
    try:
        return _COMMANDS[options.command](options)
    except BackendLostError as error:
        return _refuse(error, BACKEND_LOST)
    except InterruptedRunError as error:
        return _refuse(error, INTERRUPTED)
    except KeyboardInterrupt:
        return _refuse(KeyboardInterrupt("interrupted"), INTERRUPTED)
    except BrokenPipeError:
        return DONE  # the reader of our output had enough
    except (Exception, SystemExit) as error:  # SystemExit: a library must not choose our exit code
        if isinstance(error, (BenchError, OSError, *_errors_below())):
            return _refuse(error, BAD_INPUT)
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in _OURS:
            return _refuse(ImportError(f"a package is broken ({error}); `bench doctor` shows which"), BAD_INPUT)
        return _print_error(internal_error.describe(error, options.typed, _folders(options, begun)), INTERNAL_ERROR)


def _errors_below() -> tuple[type[Exception], ...]:
    """Errors that the packages below mean for the user, as far as those packages were needed and hence imported."""
    names = (
        ("models.errors", "CheckpointError"),
        ("reports.records.store", "RecordError"),
        ("engines.base", "EngineError"),
    )
    known = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(error for error in known if error is not None)


def _folders(options: Namespace, begun: float) -> list[Path]:
    """Where the traceback of an internal error may go: the folder of the run, where there is one, or a temporary one.

    `bench run` without --out has made its own run if runs/latest is newer than `begun`, in seconds since the epoch.
    """
    folders: list[Path] = []
    with suppress(OSError):
        if options.command in ("report", "check"):
            folders.append(options.run or LATEST)
        elif options.command == "run" and (options.out or options.resume or LATEST.lstat().st_mtime >= begun):
            folders.append(options.out or LATEST)
        folders = [folder for folder in folders if (folder / "run.json").is_file()]
    with suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    return folders


def _refuse(error: BaseException, code: int) -> int:
    return _print_error(str(error), code)


def _print_error(message: str, code: int) -> int:
    with suppress(OSError):  # closed, or a full disk: the exit code still says it
        print(f"bench: {' '.join(message.split())}", file=sys.stderr)
    return code


def _run(options: Namespace) -> int:
    from bench import run
    from bench.cli.terminal import progress
    from reports.records.store import read_run
    from reports.summary.summarise import summarise

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt too
    with progress(sys.stderr) as shown:
        if options.resume:
            folder = run.resume(options.out or LATEST, shown)
        else:
            folder = run.run(_request(options), options.out, shown)
    summary = summarise(read_run(folder))
    _tell(summary)
    print(f"Report: {folder / 'report.md'}")
    return _exit_code(summary)


def _request(options: Namespace) -> "Request":
    from bench.plan.request import Request

    return Request(
        checkpoint=options.checkpoint,
        data=options.data,
        model_options=_model_options(options),
        demo=options.demo,
        demo_width=options.demo_width,
        split=options.split,
        backends=options.backends,
        recipes=options.recipes,
        device=options.device,
        protocol=options.protocol,
        overlap=options.overlap,
        roi=options.roi,
        batch=options.batch,
        rounds=options.rounds,
        budget_s=options.budget,
        max_cases=options.max_cases,
        threads=options.threads,
        allocator=options.allocator,
        seed=options.seed,
        min_reduction_pct=options.min_reduction,
        max_dsc_drop=options.max_dsc_drop,
        max_nsd_drop=options.max_nsd_drop,
        max_f1_drop=options.max_f1_drop,
        required=options.require,
        timeout_s=options.timeout,
        command=options.typed,
    )


def _model_options(options: Namespace) -> "ModelOptions":
    from models.options import ModelOptions

    return ModelOptions(options.arch, options.tile, options.window, options.trust)


def _report(options: Namespace) -> int:
    from bench.schedule.run_directory import write_text
    from reports.records.store import read_run
    from reports.render import render
    from reports.summary.summarise import summarise

    folder = options.run or LATEST
    found = read_run(folder)
    text = render(summarise(found), options.format)
    if options.format == "markdown":
        write_text(folder / "report.md", text)
    if options.out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_text(options.out, text)
    return DONE


def _check(options: Namespace) -> int:
    from reports.decision.verdict import Claim
    from reports.records.store import read_run
    from reports.summary.summarise import summarise

    found = read_run(options.run or LATEST)
    given = {
        "min_reduction_pct": options.min_reduction,
        "max_dsc_drop": options.max_dsc_drop,
        "max_nsd_drop": options.max_nsd_drop,
        "max_f1_drop": options.max_f1_drop,
        "backend": options.backend,
    }
    stated = {name: value for name, value in given.items() if value is not None}
    claim = replace(Claim.of(found.record.settings), **stated)
    summary = summarise(found, claim)
    _tell(summary)
    return _exit_code(summary)


def _compare(options: Namespace) -> int:
    from reports.decision import regression
    from reports.decision.verdict import UNDECIDED
    from reports.records.store import read_run
    from reports.render import regression as regression_page

    reference, *others = map(read_run, (options.reference, *options.runs))
    found = [regression.regression(reference, run, options.max_slowdown) for run in others]
    print(regression_page.render(found, options.format), end="")
    exits = {regression.REGRESSION: REFUTED, regression.NO_REGRESSION: DONE, UNDECIDED: INCONCLUSIVE}
    return exits[regression.worst(one.state for one in found)]


def _inspect(options: Namespace) -> int:
    from models.inspection import describe, inspect

    info = inspect(options.file, _model_options(options))
    print(json.dumps(info, indent=2) if options.format == "json" else describe(info))
    return DONE


def _doctor(options: Namespace) -> int:
    from bench.cli import doctor
    from bench.errors import InputError
    from bench.machine import stability
    from bench.worker.process import WorkerError

    as_json = options.format == "json"
    if options.noise:
        try:
            found = stability.measure(options.device)
        except WorkerError as lost:
            raise InputError(str(lost)) from None
        print(json.dumps(stability.document(found), indent=2) if as_json else stability.text(found))
        return DONE
    findings = doctor.examine(options.device)
    print(json.dumps(doctor.document(findings), indent=2) if as_json else doctor.text(findings))
    return DONE


def _scenario(options: Namespace) -> int:
    from tempfile import TemporaryDirectory

    from bench import scenarios
    from bench.cli.terminal import progress
    from bench.plan.request import Request
    from bench.schedule.run_directory import write_text

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = Request(
        checkpoint=options.checkpoint,
        data=options.data,
        demo=options.demo,
        model_options=_model_options(options),
        demo_width=options.demo_width,
        split=options.split,
        device=options.device,
        overlap=options.overlap,
        roi=options.roi,
        max_cases=options.max_cases,
        threads=options.threads,
        allocator=options.allocator,
        timeout_s=options.timeout,
    )
    wanted = scenarios.SCENARIOS if options.scenario == "all" else (options.scenario,)
    with progress(sys.stderr) as shown, TemporaryDirectory(prefix="voxbench-") as masks:
        found = scenarios.measure(request, options.backend, wanted, options.read_ahead, Path(masks), shown)
    if options.out is not None:
        write_text(options.out, json.dumps(scenarios.document(found), indent=2) + "\n")
    print(scenarios.text(found))
    return DONE


def _tell(summary: "Summary") -> None:
    print(summary.headline)
    for reason in summary.reasons:
        if reason not in summary.headline:
            print(f"  {reason}")
    for name in summary.missing_required:
        print(f"  required backend {name} was skipped or failed")


def _exit_code(summary: "Summary") -> int:
    return BACKEND_LOST if summary.missing_required else _EXIT_OF_VERDICT[summary.verdict]


_COMMANDS = {
    "run": _run,
    "report": _report,
    "check": _check,
    "compare": _compare,
    "inspect": _inspect,
    "doctor": _doctor,
    "scenario": _scenario,
}


def entry() -> None:
    """The `bench` command."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
