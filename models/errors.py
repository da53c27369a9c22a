"""The exceptions of this package, and the one way of wording them."""

import re
from collections.abc import Iterable
from pathlib import Path

_LONGEST = 900  # characters; a hostile file can name its tensors as it likes


class CheckpointError(Exception):
    """A checkpoint cannot be used.

    The message is one line: the file, what is wrong with it, and what to do about it.
    """


class MisfitError(CheckpointError):
    """The weights are those of another network."""


def misfit(path: Path, problem: str, remedy: str) -> MisfitError:
    """Word a `MisfitError` as `refusal` words others."""
    return MisfitError(str(refusal(path, problem, remedy)))


def refusal(path: Path, problem: str, remedy: str) -> CheckpointError:
    """Word an error as ``file: problem; remedy``, on one line and free of control characters."""
    if len(problem) > _LONGEST:
        problem = problem[:_LONGEST] + "..."
    text = f"{path}: {problem}; {remedy}"
    return CheckpointError("".join(c if c.isprintable() else " " for c in text))


def some(names: list[str], limit: int = 3) -> str:
    """List the first few names and count the rest: ``a, b, c and 4 more``."""
    shown = ", ".join(name[:80] for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def sides(lengths: Iterable[object]) -> str:
    """Word the sides of a tile: ``64 x 64 x 64``."""
    return " x ".join(map(str, lengths))


def install(extra: str) -> str:
    """The remedy where the packages of an extra are missing."""
    return f'in the checkout of voxbench: pip install ".[{extra}]"'


def without_passwords(text: str) -> str:
    """Without the names and passwords that addresses in it may hold, as in ``postgresql://user:password@host``."""
    return re.sub(r"(?<=://)(?:[^\s/]*|[^\s@]*)@", "", text)


def one_line(error: BaseException) -> str:
    """What a library said, on one line; of a traceback inside it, such as TorchScript's, only its cause."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # colours
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return " ".join(" ".join(lines).split())[:300] or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """``KeyError: 'weight'``: what kind of error it is, and what it says on one line."""
    text, kind = one_line(error), type(error).__name__
    return text if text == kind else f"{kind}: {text}"
