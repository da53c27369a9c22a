"""The user's own network, made by a function they name with ``--arch FILE.py:FACTORY``.

It is the one place where code that is not ours runs, and it runs only because the user named it.
"""

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from models.errors import CheckpointError, one_line, refusal
from models.model import REFERENCE_TILE, Model
from models.networks.build import describe_network, task_in
from models.networks.outputs import OutputError
from models.networks.weights import load_state, match_state
from models.networks.window import window_of
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.task import Task
from models.user_code.isolation import is_active, user_files
from models.user_code.structure import files_read, structure_of

_TILE = "mend it, or choose another tile with --tile"
_USAGE = "give --arch FILE.py:FACTORY, a function in it that returns the network"


@dataclass(frozen=True)
class Factory:
    """Where the user's factory is: the function `name` of a module, found from `root`, in `file`."""

    root: Path
    module: str
    file: Path
    name: str

    @classmethod
    def of(cls, arch: str) -> "Factory":
        """Take ``FILE.py:FACTORY`` apart. A file inside a package is imported as part of it, from above the package.

        Raises:
            CheckpointError: it is not of that form, or there is no such file.
        """
        text, colon, name = arch.rpartition(":")
        file = Path(text).resolve()
        if not colon or file.suffix != ".py" or not name.isidentifier():
            raise refusal(Path(arch), "is no FILE.py:FACTORY", _USAGE)
        if not file.is_file():
            raise refusal(Path(text), "no such file", _USAGE)
        parts, root = [file.stem], file.parent
        while (root / "__init__.py").is_file():
            parts, root = [root.name, *parts], root.parent
        return cls(root, ".".join(parts), file, name)


def build_from_code(checkpoint: Checkpoint, arch: str, options: ModelOptions) -> Model:
    """Build the user's network of `arch` with the checkpoint's weights, inside `user_imports`.

    Raises:
        CheckpointError: it cannot be made, the weights are not its weights, or its outputs cannot be used.
    """
    factory = Factory.of(arch)
    with files_read(factory.root) as data:
        model, structure = _build(checkpoint, factory, options)
    code = hashlib.sha256(f"{factory.name}\n{structure}".encode())
    for file in (*user_files(), *filter(Path.is_file, sorted(data))):
        code.update(file.read_bytes())
    return replace(model, code=code.hexdigest())


def _build(checkpoint: Checkpoint, factory: Factory, options: ModelOptions) -> tuple[Model, str]:
    """The model, and what its network is built of."""
    name = f"{factory.file.name}:{factory.name}"
    network = _make_network(factory, checkpoint.state)
    tile, task = options.tile or REFERENCE_TILE, options.task or task_in(checkpoint)
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        with _errors_of_user_code(factory, "its forward", _TILE), torch.no_grad():
            network(torch.zeros(1, _channels(checkpoint, task), *tile))  # which gives lazy layers their shapes
    with _errors_of_user_code(factory, "loading its weights"):
        state, aside = match_state(checkpoint, network, name, "name the factory that made the trained network")
        network = load_state(state, network)
    structure = structure_of(network)  # before passes, which may leave values in it
    window, said = window_of(options, task, checkpoint.window)
    with _errors_of_user_code(factory, "its forward", _TILE):
        model = describe_network(network, name, tile, window, task=task)
    evidence = f"the weights fit all {len(state)} tensors of the network that {factory.name}() returns"
    return replace(model, remarks=(*aside, *model.remarks, *said), evidence=evidence), structure


def _channels(checkpoint: Checkpoint, task: Task | None) -> int:
    """What a network of lazy layers takes: as the task says, or else the first weight of a convolution."""
    if task is not None:
        return len(task.channels)
    return next((weight.shape[1] for weight in checkpoint.state.values() if weight.ndim == 5), 1)


def _make_network(factory: Factory, state: Mapping[str, Tensor]) -> nn.Module:
    """Call the user's factory; it may take the weights as its argument ``state``."""
    assert is_active(), "a network of the user's code is made and used inside `models.load.load_model`"
    with _errors_of_user_code(factory, "importing it"):
        module = importlib.import_module(factory.module)
    file = Path(module.__file__ or "").resolve()
    if file != factory.file:
        raise refusal(factory.file, f"has the name of a module that is loaded already ({file})", "rename the file")
    function = getattr(module, factory.name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise refusal(factory.file, f"has no function {factory.name}; it has {', '.join(names[:8]) or 'none'}", _USAGE)
    with _errors_of_user_code(factory, f"{factory.name}()"):
        network = function(**({"state": dict(state)} if _takes_state(function) else {}))
    if not isinstance(network, nn.Module):
        problem = f"{factory.name}() returned a {type(network).__name__}"
        raise refusal(factory.file, problem, "return the network, a torch.nn.Module")
    return network


def _takes_state(function: Callable[..., Any]) -> bool:
    try:
        return "state" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # no signature, as of some builtins
        return False


@contextmanager
def _errors_of_user_code(factory: Factory, doing: str, remedy: str = "mend it") -> Iterator[None]:
    """Word an error of the user's code in one line, with its place in their files; what they print goes to stderr.

    A script that parses arguments when it is imported ends in a SystemExit.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except CheckpointError:
        raise
    except OutputError as error:
        wanted = "return the logits of a segmentation, and of a classification if there is one"
        raise refusal(factory.file, str(error), error.remedy or wanted) from None
    except (Exception, SystemExit) as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if factory.root in Path(frame.filename).parents
        ]
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        problem = f"{doing} failed: {type(error).__name__}{place}: {one_line(error)}"
        raise refusal(factory.file, problem, remedy) from error
