"""The model of a program that is run as it is."""

from dataclasses import replace

from models.errors import one_line, refusal, sides
from models.model import Model, Program
from models.networks.build import describe_network
from models.networks.outputs import OutputError
from models.networks.weights import refuse_unusable
from models.networks.window import window_of
from models.options import ModelOptions
from models.programs.answers import LOGITS
from models.programs.onnx_graph import Graph, with_fixed_shapes
from models.reader.checkpoint import Checkpoint
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT

_NAMES = {TORCHSCRIPT: "the TorchScript program", EXPORTED: "the exported program", ONNX: "the ONNX graph"}


def name_of(program: Program) -> str:
    """What to call the program in a sentence."""
    return _NAMES[program.container]


def fit_tile(checkpoint: Checkpoint, program: Program, options: ModelOptions) -> ModelOptions:
    """The options with the only tile that the program takes, where it takes one size only.

    Raises:
        CheckpointError: the user named another tile; or the weights hold NaN or infinity.
    """
    refuse_unusable(checkpoint, checkpoint.nonfinite)
    if options.tile and program.tile and options.tile != program.tile:
        problem = f"takes tiles of {sides(program.tile)} only, and --tile asks for {sides(options.tile)}"
        raise refusal(checkpoint.path, problem, "leave --tile out, or export it with dynamic axes")
    return replace(options, tile=options.tile or program.tile)


def build_program(
    checkpoint: Checkpoint, program: Program, options: ModelOptions, tile: tuple[int, int, int], reason: str
) -> Model:
    """Make a model of a program, which takes tiles of `tile`; `reason` says why no network takes its place.

    Raises:
        CheckpointError: its outputs cannot be used, or its shapes contradict each other.
    """
    name = f"{program.container} program" if program.container != ONNX else "onnx graph"
    window, said = window_of(options, options.task)
    try:
        model = describe_network(program, name, tile, window, program.batch or 1, options.task)
    except OutputError as error:
        remedy = error.remedy or LOGITS
        raise refusal(checkpoint.path, one_line(error), remedy) from None
    if isinstance(program, Graph):
        _refuse_contradicting_shapes(checkpoint, model, program)
    remarks = [f"{name_of(program)} itself is run: {reason}", *model.remarks, *said]
    remarks += [f"it takes tiles of {sides(tile)} only"] if program.tile else []
    remarks += [f"it takes batches of {program.batch} only"] if program.batch else []
    width = next((weight.shape[0] for weight in checkpoint.state.values() if weight.ndim == 5), 0)
    return replace(model, width=width, code=program.sha256, program=program, remarks=tuple(remarks))


def _refuse_contradicting_shapes(checkpoint: Checkpoint, model: Model, graph: Graph) -> None:
    """Every runtime receives the graph with its shapes fixed, so that must be possible."""
    try:
        shape = (graph.batch or 1, model.channels, *model.tile)
        with_fixed_shapes(model, shape, "image", ("segmentation", "classification"))
    except Exception as error:  # whatever ONNX's tools raise
        remedy = "export it for tiles of one size"
        raise refusal(checkpoint.path, f"contradicts itself about shapes ({one_line(error)})", remedy) from None
