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

from models.errors import CheckpointError, refusal
from models.model import LABELS, Model, first_width, weights_sha256
from models.networks.outputs import OutputError, Pair, find_outputs, tensor_at
from models.networks.weights import differences, narrowed, put, refuse_unusable
from models.reader.checkpoint import Checkpoint
from models.user_code.isolation import user_files, user_imports

TILE = (64, 64, 64)  # voxels; this and the window are the reference network's
WINDOW = (-1000.0, 1000.0)  # HU
_USAGE = "give --arch FILE.py:FACTORY, a function in it that returns the network"


@dataclass(frozen=True)
class Source:
    """Where the user's factory is: a module, found from `root`, in `file`."""

    root: Path
    module: str
    file: Path
    factory: str

    @classmethod
    def of(cls, arch: str) -> "Source":
        """Take ``FILE.py:FACTORY`` apart. A file inside a package is imported as part of it, from above the package.

        Raises:
            CheckpointError: it is not of that form, or there is no such file.
        """
        text, colon, factory = arch.rpartition(":")
        file = Path(text).resolve()
        if not colon or file.suffix != ".py" or not factory.isidentifier():
            raise refusal(Path(arch), "is no FILE.py:FACTORY", _USAGE)
        if not file.is_file():
            raise refusal(Path(text), "no such file", _USAGE)
        parts, root = [file.stem], file.parent
        while (root / "__init__.py").is_file():
            parts, root = [root.name, *parts], root.parent
        return cls(root, ".".join(parts), file, factory)


@contextmanager
def imports_for(arch: str | None) -> Iterator[None]:
    """The context in which a network of `arch` is made and run; without one, nothing special."""
    if arch is None:
        yield
        return
    with user_imports(Source.of(arch).root):
        yield


def make_network(arch: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Call the user's factory, inside `imports_for`; it may take the weights as its argument ``state``.

    Raises:
        CheckpointError: it cannot be imported, raises, or returns no module.
    """
    source = Source.of(arch)
    with _told(source, "importing it"):
        module = importlib.import_module(source.module)
    found = Path(module.__file__ or "").resolve()
    if found != source.file:
        raise refusal(source.file, f"has the name of a module that is loaded already ({found})", "rename the file")
    factory = getattr(module, source.factory, None)
    if not callable(factory):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise refusal(source.file, f"has no function {source.factory}; it has {', '.join(names[:8]) or 'none'}", _USAGE)
    with _told(source, f"{source.factory}()"):
        made = factory(**({"state": dict(state)} if _takes_state(factory) else {}))
    if not isinstance(made, nn.Module):
        found_type = f"{source.factory}() returned a {type(made).__name__}"
        raise refusal(source.file, found_type, "return the network, a torch.nn.Module")
    return made


def build_given(
    checkpoint: Checkpoint, arch: str, tile: tuple[int, int, int] | None, window: tuple[float, float] | None
) -> Model:
    """Build the user's network with the checkpoint's weights, inside `imports_for`.

    Raises:
        CheckpointError: it cannot be made, the weights are not its weights, or its outputs cannot be used.
    """
    source = Source.of(arch)
    name = f"{source.file.name}:{source.factory}"
    network = make_network(arch, checkpoint.state)
    with _told(source, "loading its weights"):
        state, aside = fitting(checkpoint, network, name, "name the factory that made the trained network")
        network = put(state, network)
    with _told(source, "its forward", "mend it, or choose another tile with --tile"):
        model = as_model(network, name, tile or TILE, window or WINDOW)
    code = hashlib.sha256(source.factory.encode())
    for file in user_files():
        code.update(file.read_bytes())
    evidence = f"the weights fit all {len(state)} tensors of the network that {source.factory}() returns"
    return replace(model, code=code.hexdigest(), remarks=(*aside, *model.remarks), evidence=evidence)


def as_model(
    network: nn.Module, architecture: str, tile: tuple[int, int, int], window: tuple[float, float], code: str = "",
    batch: int = 1,
) -> Model:  # fmt: skip
    """Describe a loaded network after running it once on `batch` empty tiles.

    Raises:
        OutputError: its outputs are no segmentation of 2 or 3 classes, with or without a classification.
    """
    with torch.inference_mode():
        found = network(torch.zeros(batch, 1, *tile))
    segmentation, classification = find_outputs(found, tile)
    classes = tensor_at(found, segmentation).shape[1]
    if classes not in (2, 3):
        expected = "background, pancreas and, if any, lesion are expected"
        raise OutputError(f"its segmentation has {classes} channels where {expected}")
    subtypes = 0 if classification is None else tensor_at(found, classification).shape[1]
    remarks: tuple[str, ...] = ()
    if subtypes != 3:
        told = f"it tells {subtypes} subtypes apart" if subtypes else "it has no classification: F1 is not applicable"
        remarks = (told,)
    if classes == 2:
        remarks = (*remarks, "it has no lesion class: lesion DSC is not applicable")
    module = Pair(network, segmentation, classification).eval()
    return Model(
        module, architecture, first_width(network), tile, window, weights_sha256(module),
        labels=LABELS[:classes], subtypes=subtypes, code=code, remarks=remarks,
    )  # fmt: skip


def fitting(
    checkpoint: Checkpoint, network: nn.Module, name: str, remedy: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights under the names the network wants, and what is to be said of others beside them.

    Prefixes that reading took off may have been the network's own.

    Raises:
        CheckpointError: they are not the weights of `network`, which the message calls `name`, or cannot be used.
    """
    first = next(iter(network.state_dict()), "")
    inside, aside = narrowed(checkpoint, first)
    if aside and differences(inside.state, network) is None:
        refuse_unusable(inside, _floats(network))
        return dict(inside.state), aside
    prefixes = [one for one in checkpoint.wrappers if one.endswith(".")]
    candidates = ["".join(prefixes[at:]) for at in range(len(prefixes), -1, -1)]
    renamed = [{prefix + key: tensor for key, tensor in checkpoint.state.items()} for prefix in candidates]
    wrong = [differences(state, network) for state in renamed]
    if all(wrong):
        closest = max(renamed, key=lambda state: len(state.keys() & network.state_dict().keys()))
        found = f"its weights are not those of {name}: {differences(closest, network)}"
        raise refusal(checkpoint.path, found, remedy)
    state = renamed[wrong.index(None)]
    prefix = candidates[wrong.index(None)]
    refuse_unusable(checkpoint, [key.removeprefix(prefix) for key in _floats(network)])
    return state, ()


def _floats(network: nn.Module) -> list[str]:
    return [key for key, tensor in network.state_dict().items() if tensor.is_floating_point()]


def _takes_state(factory: Callable[..., Any]) -> bool:
    try:
        return "state" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # no signature, as of some builtins
        return False


@contextmanager
def _told(source: Source, doing: str, remedy: str = "mend it") -> Iterator[None]:
    """Tell an error of the user's code in one line, with its place in their files; what they print goes to stderr.

    A script that parses arguments when it is imported ends in a SystemExit.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except CheckpointError:
        raise
    except OutputError as error:
        wanted = "return the logits of a segmentation, and of a classification if there is one"
        raise refusal(source.file, str(error), wanted) from None
    except (Exception, SystemExit) as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if source.root in Path(one.filename).parents]
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        found = f"{doing} failed: {type(error).__name__}{place}: {' '.join(str(error).split())[:300]}"
        raise refusal(source.file, found, remedy) from error
