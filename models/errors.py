"""The one exception of this package, and the one way of wording it."""

from pathlib import Path

_LONGEST = 900  # characters; a hostile file can name its tensors as it likes


class CheckpointError(Exception):
    """A checkpoint cannot be used.

    The message is one line: the file, what was found in it, and what to do about it.
    """


def refusal(path: Path, found: str, remedy: str) -> CheckpointError:
    """Word an error as ``file: found; remedy``, on one line and free of control characters."""
    if len(found) > _LONGEST:
        found = found[:_LONGEST] + "..."
    text = f"{path}: {found}; {remedy}"
    return CheckpointError("".join(c if c.isprintable() else " " for c in text))


def some(names: list[str], limit: int = 3) -> str:
    """List the first few names and count the rest: ``a, b, c and 4 more``."""
    shown = ", ".join(name[:80] for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def one_line(error: BaseException) -> str:
    """What a library said, on one line; of a traceback inside it, such as TorchScript's, only its cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return " ".join(" ".join(lines).split())[:300] or type(error).__name__
