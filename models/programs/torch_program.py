"""Networks that come as a program of PyTorch's: TorchScript archives and torch.export packages.

Loading one runs whatever its writer put there, so it is done for a file only that the user named with ``--trust``.
"""

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import one_line, refusal
from models.model import Program, Sides
from models.reader.checkpoint import Checkpoint, bare_checkpoint
from models.reader.container import EXPORTED, TORCHSCRIPT
from models.reader.source import Source

_ANY: Sides = (None,) * 5
_DANGERS = {
    TORCHSCRIPT: "is a TorchScript archive, and reading one runs the code in it",
    EXPORTED: "is a torch.export package (.pt2), and reading one can run code hidden in it (CVE-2026-4538)",
}


class TorchProgram(Program):
    """A program that PyTorch runs: a ScriptModule, or the module of an exported program."""

    def __init__(self, container: str, takes: Sides, path: Path, program: nn.Module) -> None:
        with path.open("rb") as file:
            super().__init__(container, takes, hashlib.file_digest(file, "sha256").hexdigest())
        self.program = program
        for parameter in program.parameters():  # requires_grad_ is not there in every program
            parameter.requires_grad = False
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Whatever the program returns for ``[B, C, D, H, W]``."""
        return self.program(x)


def read_program(source: Source, trusted: bool) -> Checkpoint:
    """Load the program in a file that the user trusts, in eval mode and on the CPU, and the weights that it names.

    A frozen program names none: there they are constants in its code.

    Raises:
        CheckpointError: the user did not name it, or it cannot be loaded.
    """
    path = source.path
    if not trusted:
        way_on = f"if you trust its source, add --trust {shlex.quote(str(path))}"
        remedy = f"{way_on}; else save the network's state_dict() with torch.save"
        raise refusal(path, _DANGERS[source.container], remedy)
    try:
        program = _load_script(path) if source.container == TORCHSCRIPT else _load_exported(path)
    except Exception as error:  # of code that is not ours anything can come
        problem = f"could not be loaded with torch {torch.__version__} ({one_line(error)})"
        raise refusal(path, problem, "export it again, with this version of torch") from None
    weights = {
        name: tensor.detach() for name, tensor in program.program.state_dict().items() if tensor.layout == torch.strided
    }
    elsewhere = sorted({tensor.device.type for tensor in weights.values()} - {"cpu"})
    if elsewhere:
        raise refusal(path, f"is a program for {elsewhere[0]}", "export it from the CPU")
    return replace(bare_checkpoint(source, weights), program=program)


def _load_script(path: Path) -> TorchProgram:
    script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return TorchProgram(TORCHSCRIPT, _ANY, path, script)


def _load_exported(path: Path) -> TorchProgram:
    exported = torch.export.load(path)
    module = exported.module()
    # These methods of the module only refuse: the mode is part of what was exported.
    for name in ("train", "eval"):
        vars(module).pop(name, None)
    inputs = exported.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in exported.graph.nodes if node.name in inputs and "val" in node.meta]
    if len(shapes) != 1 or len(shapes[0]) != 5:
        raise ValueError(f"its inputs are {', '.join(str(list(shape)) for shape in shapes)}, not one [B, C, D, H, W]")
    takes = tuple(side if isinstance(side, int) else None for side in shapes[0])
    return TorchProgram(EXPORTED, takes, path, module)
