"""Calls the module of a command; every error becomes one line and an exit code."""

import io
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from bench.cli import internal_error
from bench.cli.exit_codes import BACKEND_LOST, BAD_INPUT, DONE, INTERNAL_ERROR, INTERRUPTED
from bench.cli.options import parser
from bench.errors import BackendLostError, BenchError, InputError, InterruptedRunError
from bench.imports import OURS, LightImports, adopt_environment
from bench.schedule.run_directory import LATEST

_MODULES = {
    "inspect": "inspection",  # `inspect` is in the standard library
    "plan": "run",
    **{name: f"winner.{name}" for name in ("export", "predict", "verify")},
}

_SHOWING = ("doctor", "history", "inspect", "report")  # whose exit code says nothing of what they show


def main(arguments: list[str] | None = None) -> int:
    """Run `bench` and return its exit code."""
    begun = time.time()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files, and characters that a terminal lacks
    options = parser().parse_args(arguments)
    options.typed = shlex.join(["bench", *(sys.argv[1:] if arguments is None else arguments)])
    warnings.simplefilter("ignore")  # of the libraries: what matters here is said in plain words
    logging.getLogger("nibabel.global").disabled = True  # likewise: odd headers, each in a line of its own
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home it cannot write to, and how long fonts take
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt too
        _check_current_folder()
        with LightImports():
            module = import_module(f"bench.cli.commands.{_module(options)}")
        return int(module.execute(options))
    except BackendLostError as error:
        return _refuse(error, BACKEND_LOST)
    except InterruptedRunError as error:
        return _refuse(error, INTERRUPTED)
    except KeyboardInterrupt:
        return _refuse(KeyboardInterrupt("interrupted"), INTERRUPTED)
    except BrokenPipeError:
        if options.command in _SHOWING:
            return DONE  # the reader had enough
        return _refuse(BrokenPipeError("interrupted: the output was closed before its end"), INTERRUPTED)
    except (Exception, SystemExit) as error:  # SystemExit: a library must not choose our exit code
        if isinstance(error, (BenchError, OSError, *_errors_below())):
            return _refuse(error, BAD_INPUT)
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in OURS:
            return _refuse(ImportError(f"a package is broken ({error}); `bench doctor` shows which"), BAD_INPUT)
        return _print_error(internal_error.describe(error, options.typed, _folders(options, begun)), INTERNAL_ERROR)


def _module(options: Namespace) -> str:
    """A prediction by a server has a module of its own, since it needs none of what runs networks."""
    if getattr(options, "url", None) is not None:
        return "winner.predict_remotely"
    return _MODULES.get(options.command, str(options.command))


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(f"the current folder is not there any more ({error.strerror}); go to another one") from None


def _errors_below() -> tuple[type[Exception], ...]:
    """Errors that the packages below mean for the user, as far as those packages were needed and hence imported."""
    names = (
        ("models.errors", "CheckpointError"),
        ("models.task", "TaskError"),
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
        if options.command in ("report", "log", "check"):
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
        lines = filter(None, map(str.strip, message.splitlines()))  # spaces in it may be those of a path
        print(f"bench: {' '.join(lines)}", file=sys.stderr)
    return code


def entry() -> None:
    """The `bench` command."""
    left_out = [
        each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and not Path(each).is_absolute()
    ]
    adopt_environment()  # for whatever a library starts
    _open_closed_streams()
    if left_out:
        _print_error(f"PYTHONPATH: relative, and left out: {', '.join(left_out)}; give whole paths", DONE)
    code = main()
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python would complain when it ends
        if not isinstance(error, BrokenPipeError):
            code = _print_error(f"the standard output cannot be written to ({error.strerror})", BAD_INPUT)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Take the numbers of standard streams that the caller has closed, before a file of ours gets one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or os.fdopen(number, mode)
        for number, (stream, mode) in enumerate(((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")))
    )
