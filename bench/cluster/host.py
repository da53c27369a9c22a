"""What lives in an actor: it holds an object of ours and calls its methods.

Ray writes down what an actor prints and raises, and sends that around. So nothing is printed here, and an exception
becomes a value, whose text the object words itself.
"""

import os
import platform
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import bench


@dataclass(frozen=True)
class Raised:
    """An exception, by the name of its class, and its text in one line."""

    kind: str
    reason: str


class Host:
    """Holds the object that ``module:Class`` makes of some arguments."""

    def __init__(self) -> None:
        self._held: Any = None
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silent, stream)
        os.close(silent)

    def versions(self) -> dict[str, str]:
        """Of what must be equal on all nodes."""
        return versions()

    def make(self, factory: str, *arguments: Any) -> Raised | None:
        """Make the object."""
        module, _, name = factory.partition(":")
        try:
            self._held = getattr(import_module(module), name)(*arguments)
        except Exception as error:  # whatever it is, it is the caller's to judge
            return raised(error)
        return None

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of the object returns, or `Raised`."""
        try:
            return getattr(self._held, method)(*arguments)
        except Exception as error:  # likewise
            return raised(error)


def raised(error: BaseException) -> Raised:
    """The exception as a value; one of the system without the file that it names."""
    text = error.strerror or "" if isinstance(error, OSError) else str(error)
    return Raised(type(error).__name__, " ".join(text.split()) or type(error).__name__)


def versions() -> dict[str, str]:
    """Of what must be equal on all nodes, as it is here."""
    return {"voxbench": bench.__version__, "python": platform.python_version(), "torch": version("torch")}
