"""A file's own program, or in its place our network of the same weights where that provably answers alike."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointError, one_line, refusal
from models.model import Model
from models.networks.outputs import find_outputs, tensor_at
from models.networks.weights import refuse_unusable
from models.options import ModelOptions
from models.programs.onnx_graph import Graph, fixed
from models.programs.program import Program
from models.reader.checkpoint import Checkpoint
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT
from models.user_code.factory import TILE, WINDOW, as_model

TOLERANCE = 1e-4  # of the norm of the difference, against the norm of the answers: what rounding in float32 may do
_NAMES = {TORCHSCRIPT: "the TorchScript program", EXPORTED: "the exported program", ONNX: "the ONNX graph"}
Build = Callable[[Checkpoint, int | None, ModelOptions], Model]


def build_program(checkpoint: Checkpoint, program: Program, options: ModelOptions, build: Build) -> Model:
    """Make a model of a program and its weights.

    Where `build` knows a network by these weights, and it gives the program's answers on a tile of noise, the model is
    that network, which every backend can run. Else it is the program, which some cannot.

    Raises:
        CheckpointError: the program does not run on that tile, or answers otherwise the second time; its outputs cannot
            be used, or are NaN or infinity.
    """
    refuse_unusable(checkpoint, checkpoint.nonfinite)
    if options.tile and program.tile and options.tile != program.tile:
        fixed, asked = (" x ".join(map(str, sides)) for sides in (program.tile, options.tile))
        found = f"takes tiles of {fixed} only, and --tile asks for {asked}"
        raise refusal(checkpoint.path, found, "leave --tile out, or export it with dynamic axes")
    options = replace(options, tile=options.tile or program.tile)
    ours, why = _recognised(checkpoint, options, build)
    tile = ours.tile if ours else options.tile or TILE
    answers, x = _answers(checkpoint, program, tile)
    if ours:
        error = _error(ours, answers, x)
        told = "bit for bit" if error == 0 else f"up to rounding (relative error {error:.1g})"
        if error <= TOLERANCE:
            remark = f"{_NAMES[program.container]} was replaced by {ours.architecture} of its weights, which answers"
            return replace(ours, remarks=(*ours.remarks, f"{remark} as it does on a tile of noise, {told}"))
        why = f"its weights fit {ours.architecture}, but that answers otherwise (relative error {error:.1g})"
    return _as_it_is(checkpoint, program, options, tile, why)


def _recognised(checkpoint: Checkpoint, options: ModelOptions, build: Build) -> tuple[Model | None, str]:
    if not checkpoint.state:
        return None, "it keeps its weights as constants, without names"
    try:
        return build(replace(checkpoint, network=None), None, options), ""
    except CheckpointError:
        return None, "its weights are not those of a network that is known here"


def _answers(checkpoint: Checkpoint, program: Program, tile: tuple[int, int, int]) -> tuple[Any, Tensor]:
    """What the program returns for tiles of noise, and these tiles."""
    x = torch.rand(program.batch or 1, 1, *tile, generator=torch.Generator().manual_seed(0))
    sides = " x ".join(map(str, tile))
    try:
        with torch.inference_mode():
            first, again = program(x), program(x)
        ways = find_outputs(first, tile)
        pairs = [(tensor_at(first, way), tensor_at(again, way)) for way in ways if way is not None]
    except Exception as error:  # of code that is not ours anything can come
        found = f"does not run on a tile of {sides} ({one_line(error)})"
        raise refusal(checkpoint.path, found, "name the tile it was made for with --tile X,Y,Z") from None
    if not all(bool(one.isfinite().all()) for one, _ in pairs):
        raise refusal(checkpoint.path, f"gives NaN or infinity on a tile of noise of {sides}", "export it again")
    if not all(torch.equal(one, other) for one, other in pairs):
        found = "gives another answer each time: it was exported in training mode, dropout and all"
        raise refusal(checkpoint.path, found, "export it after network.eval()")
    return first, x


def _error(ours: Model, answers: Any, x: Tensor) -> float:
    """Largest relative error of our two outputs against the program's; infinite where it has not both."""
    segmentation, classification = find_outputs(answers, (x.shape[2], x.shape[3], x.shape[4]))
    if classification is None:
        return float("inf")
    with torch.inference_mode():
        found = ours.module(x)
    errors = []
    for one, way in zip(found, (segmentation, classification), strict=True):
        true = tensor_at(answers, way).double()
        if one.shape != true.shape:
            return float("inf")
        errors.append(float((one.double() - true).norm() / true.norm().clamp_min(1e-30)))
    return max(errors)


def _as_it_is(
    checkpoint: Checkpoint, program: Program, options: ModelOptions, tile: tuple[int, int, int], why: str
) -> Model:
    name = f"{program.container} program" if program.container != ONNX else "onnx graph"
    try:
        model = as_model(program, name, tile, options.window or WINDOW, batch=program.batch or 1)
    except ValueError as error:
        raise refusal(checkpoint.path, one_line(error), "export a network that returns logits") from None
    if isinstance(program, Graph):
        _check_shapes(checkpoint, model, program)
    remarks = [f"{_NAMES[program.container]} itself is run: {why}", *model.remarks]
    remarks += [f"it takes tiles of {' x '.join(map(str, tile))} only"] if program.tile else []
    remarks += [f"it takes batches of {program.batch} only"] if program.batch else []
    width = next((weight.shape[0] for weight in checkpoint.state.values() if weight.ndim == 5), 0)
    return replace(model, width=width, code=program.sha256, program=program, remarks=tuple(remarks))


def _check_shapes(checkpoint: Checkpoint, model: Model, graph: Graph) -> None:
    """Every runtime is given the graph with its shapes fixed, so that must be possible."""
    try:
        fixed(model, (graph.batch or 1, 1, *model.tile), "image", ("segmentation", "classification"))
    except Exception as error:  # whatever ONNX's tools raise
        remedy = "export it for tiles of one size"
        raise refusal(checkpoint.path, f"contradicts itself about shapes ({one_line(error)})", remedy) from None
