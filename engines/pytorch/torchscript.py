"""The network traced, frozen and optimised by TorchScript."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engines.base import Target
from engines.cache import artefact, key_of
from engines.evidence.mac_counter import layers_for
from engines.layers import PRECISIONS, UNKNOWN, Operation
from engines.placement import placed
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import TorchSession, fp32_as_run, torch_settings, trace
from engines.pytorch.tracing import save_trace, trace_network
from models.errors import one_line
from models.suppress import suppress_output

if TYPE_CHECKING:
    from models.model import Model

_FILE = "frozen.pt"
_OF_TWO = ("bmm", "attention")
_MULTIPLY = ("conv", "linear", "matmul", "mm")


class TorchScript(TorchEngine):
    """Runs a frozen trace of the module, kept on disk."""

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        layers = layers_for(model, target)
        with torch_settings(target):
            key = key_of(model, target, ("torch",), precision="fp32", **_number(target))
            with suppress_output():
                built = artefact(target, "torchscript", key, lambda folder: _build(model, target, folder / _FILE))
                x = torch.rand(target.input_shape, device=target.device)
                program, unoptimised = _load(built.folder / _FILE, x)

            def operations() -> list[Operation]:
                with torch.inference_mode():
                    program(x)
                    operations = _operations(_executed_graph(), target)
                    if any(layer.varies for layer in layers):  # products of no constant
                        ran = trace(lambda: program(x), target.on_cuda)
                        operations += [each for each in ran if any(word in each.name for word in _OF_TWO)]
                return operations

            read_from = f"weights in the graph that the interpreter ran{unoptimised}"
            yield TorchSession(program, layers, target, built.cached, operations, read_from)


def _number(target: Target) -> dict[str, int]:
    """The device's number, for the key: a trace keeps the devices of tensors that a forward makes as constants.

    Loading it for another device moves weights alone, so that there it is built anew.
    """
    return {"number": torch.device(target.device).index or 0} if target.on_cuda else {}


def _build(model: "Model", target: Target, path: Path) -> None:
    x = torch.rand(target.input_shape, device=target.device)
    with placed(model.module, target.device) as network, torch.inference_mode():
        save_trace(torch.jit.freeze(trace_network(network, x)), path)


def _load(path: Path, x: torch.Tensor) -> tuple[Any, str]:
    """The program, optimised; where that does not run, frozen alone, and why, in words that go on."""

    def frozen() -> Any:
        return torch.jit.load(str(path), map_location=x.device)  # type: ignore[no-untyped-call]

    # After loading, since it changes the module into one that cannot be saved.
    try:
        optimised = torch.jit.optimize_for_inference(frozen())
        with torch.inference_mode():
            optimised(x)  # which oneDNN refuses for some norms that it was chosen for
    except RuntimeError as error:
        return frozen(), f"; frozen, and not optimised for inference ({one_line(error)})"
    return optimised, ""


def _executed_graph() -> Any:
    return torch.jit.last_executed_optimized_graph()  # type: ignore[attr-defined]


def _operations(graph: Any, target: Target) -> list[Operation]:
    """List what multiplies by a constant, from the graph: oneDNN's convolutions are in no profiler trace."""
    operations = []
    for node in _nodes(graph):
        if any(word in node.kind() for word in _MULTIPLY):
            weights = [weight for weight in map(_constant, node.inputs()) if weight is not None and weight.dim() > 1]
            for weight in weights[:1]:
                precision = PRECISIONS.get(str(weight.dtype).removeprefix("torch."), UNKNOWN)
                if precision == "fp32":
                    precision = fp32_as_run(target.on_cuda, "conv" in node.kind())
                operations.append(Operation(node.kind(), precision, [tuple(weight.shape)]))
    return operations


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
        if node.hasAttribute("Subgraph"):
            yield from _nodes(node.g("Subgraph"))


def _constant(value: Any) -> torch.Tensor | None:
    node = value.node()
    if node.kind() == "prim::ConstantMKLDNNTensor":
        return node.t("value")  # type: ignore[no-any-return]
    constant = value.toIValue() if node.kind() == "prim::Constant" else None
    return constant if isinstance(constant, torch.Tensor) else None
