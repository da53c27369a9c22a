"""Where our processes import from: never the current folder, whatever project it belongs to.

Python looks there first for ``python -m`` and ``python -c``, and where PYTHONPATH has an empty or a relative entry: a
project's package `models` or its file `torch.py` would be run in the place of the real one. This file imports only what
Python itself has loaded before, since the current folder may still be on the path.
"""

import gc
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

OURS = ("bench", "engines", "models", "reports")
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

# Lists of folders where programs look for code. An entry that is relative, or empty, means the current folder.
_LISTS = (
    "PATH", "PYTHONPATH", "PYTHONUSERBASE", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
)  # fmt: skip


class _Ours:
    """Finds our packages beside this one, before any other finder searches the path for their names."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG004
        return PathFinder.find_spec(name, [HOME]) if path is None and name in OURS else None


def find_ours_first() -> None:
    """Have this process import `OURS` from `HOME`, also where PYTHONPATH leads to packages of the same names."""
    if _Ours not in sys.meta_path:
        sys.meta_path.insert(0, _Ours)


class LightImports:
    """Import without what only takes time: a seventh of a worker's start, and a tenth of that of `bench run`.

    The collector of garbage looks through everything that modules define, and finds nothing to free. And nibabel
    imports pydicom, where that is installed, for an extension of NIfTI that nothing here reads; what reads DICOM
    imports it later.
    """

    def __enter__(self) -> None:
        self._collects, self._hides = gc.isenabled(), "pydicom" not in sys.modules
        gc.disable()
        if self._hides:
            sys.modules["pydicom"] = None  # type: ignore[assignment]  # so that to import it raises ImportError

    def __exit__(self, *_: object) -> None:
        if self._hides:
            sys.modules.pop("pydicom", None)
        if self._collects:
            gc.enable()


def leave_current_folder() -> None:
    """Take out of `sys.path` what PYTHONPATH's empty and relative entries have put there.

    Its absolute entries stay: they name a folder, and the same one wherever the process is started.
    """
    if value := os.environ.get("PYTHONPATH"):
        entries = value.split(os.pathsep)
        named = {entry for entry in entries if os.path.isabs(entry)}  # noqa: PTH117
        # Python has made absolute ones of the others when it started.
        current = {os.path.abspath(entry) for entry in entries} - named  # noqa: PTH100
        sys.path[:] = [entry for entry in sys.path if entry not in current]


_changed: dict[str, str | None] = {}  # by `adopt_environment`: what the user had


def adopt_environment() -> None:
    """Have this process and what it starts go on with `environment`."""
    before, variables = dict(os.environ), environment()
    _changed.update(
        {name: before.get(name) for name in before.keys() | variables if before.get(name) != variables.get(name)}
    )
    os.environ.clear()
    os.environ.update(variables)


def users_environment() -> dict[str, str]:
    """The variables that `bench` was called with, for what the user has it run."""
    return {name: value for name, value in ({**os.environ} | _changed).items() if value is not None}


def environment() -> dict[str, str]:
    """The variables for a process that is started: those of this one, without relative folders to find code in."""
    variables = {**os.environ, "PYTHONSAFEPATH": "1"}  # as -P, and for the processes that this one starts
    for name in _LISTS:
        entries = variables.pop(name, "").split(os.pathsep)
        if absolute := [entry for entry in entries if os.path.isabs(entry)]:  # noqa: PTH117
            variables[name] = os.pathsep.join(absolute)
    return variables
