"""Networks that come as a program of their own: TorchScript archives and torch.export packages.

Loading one runs whatever its writer put there, so it is done for a file only that the user named with ``--trust``.
"""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import CheckpointError, one_line, refusal
from models.reader.container import EXPORTED, TORCHSCRIPT

Sides = tuple[int | None, ...]  # B, C, D, H, W of the input a program takes; None where any will do
ANY: Sides = (None,) * 5

_WHAT = {
    TORCHSCRIPT: "is a TorchScript archive, and reading one runs the code in it",
    EXPORTED: "is a torch.export package (.pt2), and reading one can run code hidden in it (CVE-2026-4538)",
}


class Program(nn.Module):
    """A network whose forward is a file's, and not Python code of ours or the user's.

    Attributes:
        container: of the file.
        takes: the input it accepts.
        sha256: of all that it was read from.
    """

    def __init__(self, container: str, takes: Sides, sha256: str) -> None:
        super().__init__()
        self.container = container
        self.takes = takes
        self.sha256 = sha256

    @property
    def batch(self) -> int | None:
        """Tiles in every pass; None for any."""
        return self.takes[0]

    @property
    def tile(self) -> tuple[int, int, int] | None:
        """Sides of the tile; None unless it takes one size only."""
        depth, height, width = self.takes[2:]
        return None if depth is None or height is None or width is None else (depth, height, width)


class Loaded(Program):
    """A program that PyTorch runs: a ScriptModule, or the module of an exported program."""

    def __init__(self, container: str, takes: Sides, path: Path, program: nn.Module) -> None:
        with path.open("rb") as file:
            super().__init__(container, takes, hashlib.file_digest(file, "sha256").hexdigest())
        self.program = program
        for parameter in program.parameters():  # requires_grad_ is not there in every program
            parameter.requires_grad = False
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Whatever the program returns for ``[B, 1, D, H, W]``."""
        return self.program(x)


def refuse_untrusted(path: Path, container: str) -> CheckpointError:
    """The refusal of a program that the user did not name."""
    way_on = f"if you trust its source, add --trust {shlex.quote(str(path))}"
    return refusal(path, _WHAT[container], f"{way_on}; else save the network's state_dict() with torch.save")


def load_program(path: Path, container: str) -> tuple[Loaded, dict[str, Tensor]]:
    """Load the program in a file that the user trusts, in eval mode and on the CPU, and the weights it tells of.

    A frozen program tells of none: there they are constants in its code.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    try:
        loaded = _scripted(path) if container == TORCHSCRIPT else _exported(path)
    except Exception as error:  # of code that is not ours anything can come
        found = f"could not be loaded with torch {torch.__version__} ({one_line(error)})"
        raise refusal(path, found, "export it again, with this version of torch") from None
    weights = {
        name: tensor.detach() for name, tensor in loaded.program.state_dict().items() if tensor.layout == torch.strided
    }
    elsewhere = sorted({tensor.device.type for tensor in weights.values()} - {"cpu"})
    if elsewhere:
        raise refusal(path, f"is a program for {elsewhere[0]}", "export it from the CPU")
    return loaded, weights


def _scripted(path: Path) -> Loaded:
    return Loaded(TORCHSCRIPT, ANY, path, torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]


def _exported(path: Path) -> Loaded:
    exported = torch.export.load(path)
    module = exported.module()
    # These methods of the module only refuse: the mode is part of what was exported.
    for name in ("train", "eval"):
        vars(module).pop(name, None)
    inputs = exported.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in exported.graph.nodes if node.name in inputs and "val" in node.meta]
    if len(shapes) != 1 or len(shapes[0]) != 5:
        raise ValueError(f"its inputs are {', '.join(str(list(shape)) for shape in shapes)}, not one [B, 1, D, H, W]")
    return Loaded(EXPORTED, tuple(side if isinstance(side, int) else None for side in shapes[0]), path, module)
