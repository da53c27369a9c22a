"""Joining a Ray cluster, or starting one here, so that Ray prints nothing and gets to know no file's name."""

import ctypes
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.imports import HOME
from models.errors import install, one_line

AUTO = "auto"
_REACHED_S = 10.0
_TITLE = b"bench"  # what Ray takes down as the command of its caller


def ray() -> Any:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError:
        raise InputError(f"--ray: takes Ray, which is not installed; {install('ray')}") from None


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it this process is a driver of the cluster at `address`, ``HOST:PORT``, and prints nothing to stdout.

    ``auto`` is the cluster that $RAY_ADDRESS names or that was started on this machine, and where there is none, one of
    this process's own.

    Raises:
        InputError: Ray is not installed, there is no such cluster, or its Python or Ray is another version.
    """
    if "://" in address:
        raise InputError(
            f"--ray {address}: Ray's client is not used; call bench on a machine of the cluster, with HOST:PORT or auto"
        )
    library = ray()
    _refuse_unreachable(address)
    # Where Ray prints what nodes report, from a thread of its own.
    with Path(os.devnull).open("w") as silence, redirect_stdout(silence):
        try:
            _join(library, address)
            yield
        finally:
            library.shutdown()


def _join(library: Any, address: str) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _unnamed(), _own_signals(), _silent_stderr():
        try:
            library.init(
                address=None if address == AUTO else address, include_dashboard=False, log_to_driver=False,
                logging_level=logging.CRITICAL,
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--ray {address}: no cluster that can be joined ({one_line(error)}); start one with `ray start --head`"
            ) from None


@contextmanager
def _unnamed() -> Iterator[None]:
    """Hide the command line and the current folder, which Ray sends to the cluster and which may hold names.

    The command line is overwritten where the system keeps it (proc_pid_stat(5): arg_start, arg_end). The package
    setproctitle fails silently once a process has cleared its environment, as `bench.imports` does.

    Raises:
        InputError: it cannot be hidden.
    """
    try:
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
        typed = ctypes.string_at(start, end - start) if start else b""
    except (OSError, ValueError):
        typed = b""
    if not typed:
        raise InputError("--ray: the command line, which may hold names, cannot be hidden from Ray here; use Linux")
    hidden = _TITLE[: len(typed) - 1].ljust(len(typed) - 1, b".") + b"\0"
    ctypes.memmove(start, hidden, len(typed))
    try:
        with chdir(HOME):
            yield
    finally:
        ctypes.memmove(start, typed, len(typed))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does on SIGTERM, which Ray changes; meanwhile it is an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # Ray's answer to it
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Swallow what Ray's own code in C++ writes there while it looks for a cluster."""
    stderr, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(silence)


def _refuse_unreachable(address: str) -> None:
    """Refuse an address at which nobody listens, for which Ray would wait for minutes.

    Raises:
        InputError: so it is.
    """
    named = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    host, _, port = named.rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray finds it, or words what is wrong with it
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--ray {address}: nobody listens at {named} ({reason}); start a cluster there with `ray start --head`"
        ) from None
