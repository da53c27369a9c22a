"""From a file to a model: the one place that asks what kind of file it is, and which network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from models.errors import CheckpointError, MisfitError, refusal, some
from models.model import REFERENCE_TILE, Model, Program
from models.monai.build import build_bundle
from models.networks.build import build_unet
from models.nnunet.build import build_nnunet, is_nnunet
from models.options import ModelOptions
from models.programs.answers import TOLERANCE, answers_to_noise, relative_error
from models.programs.build import build_program, fit_tile, name_of
from models.programs.onnx_graph import read_graph
from models.programs.torch_program import read_program
from models.reader.checkpoint import Checkpoint, read_tensors
from models.reader.container import EXPORTED, ONNX, TORCHSCRIPT
from models.reader.source import find_bundle, find_source
from models.reader.weight_sets import Keys
from models.user_code.factory import Factory, build_from_code
from models.user_code.isolation import user_imports
from models.user_code.packages import packages_of


@contextmanager
def load_model(
    path: Path, options: ModelOptions | None = None, widen_to: int | None = None
) -> Iterator[tuple[Model, Checkpoint]]:
    """Read the checkpoint at `path` and build its network, widened to `widen_to` channels; use it inside the context.

    There imports find the modules of the user's first: beside the file of ``options.arch``, or in the bundle that
    ``options.trust`` names.

    Raises:
        CheckpointError: as `read_checkpoint` and `build_model`.
    """
    with imports_for(options):
        yield _read_and_build(path, options, widen_to)


def _read_and_build(path: Path, options: ModelOptions | None, widen_to: int | None) -> tuple[Model, Checkpoint]:
    """Apart from `load_model`, whose frame would keep model and checkpoint in memory until the context ends."""
    return build_fitting(read_checkpoint(path, options), options, widen_to)


@contextmanager
def load_models(
    paths: Sequence[Path], options: ModelOptions | None = None, widen_to: int | None = None
) -> Iterator[list[Model]]:
    """The networks of an ensemble, as `load_model` gives each; the user's modules are imported once for all.

    Raises:
        CheckpointError: as `load_model`.
    """
    with imports_for(options):
        yield [_read_and_build(path, options, widen_to)[0] for path in paths]


@contextmanager
def imports_for(options: ModelOptions | None) -> Iterator[None]:
    """The context in which a network is made and used: nothing special without code of the user's."""
    root = None
    if options is not None and options.arch is not None:
        root = Factory.of(options.arch).root
    elif options is not None and options.trust is not None and options.trust.is_dir():
        root = find_bundle(options.trust)
    with user_imports(root):
        yield


def read_checkpoint(path: Path, options: ModelOptions | None = None) -> Checkpoint:
    """Read the weights in `path`, a file or a MONAI bundle, and of all else only the plain values.

    Code in it is run only if ``options.trust`` names it.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, holds code, or holds no weights.
    """
    options, source = options or ModelOptions(), find_source(path)
    if source.container == ONNX:
        return read_graph(source)
    if source.container in (TORCHSCRIPT, EXPORTED):
        return read_program(source, trusted=options.trusts(path) or options.trusts(source.path))
    return read_tensors(source)


def build_model(checkpoint: Checkpoint, options: ModelOptions | None = None, widen_to: int | None = None) -> Model:
    """Build the network whose weights `checkpoint` holds: float32, on the CPU, in eval mode.

    Weights that are float32 already are shared with ``checkpoint.state``, not copied. With code of the user's it is
    called inside `load_model` or `imports_for`.

    Raises:
        CheckpointError: the weights are of another network, are not floating point, hold NaN or infinity,
            or cannot be widened to `widen_to`; the tile does not suit the network.
    """
    options = options or ModelOptions()
    if checkpoint.program is not None and options.arch is None:
        return _build_program(checkpoint, checkpoint.program, options)
    return _build_network(checkpoint, options, widen_to)


def build_fitting(
    checkpoint: Checkpoint, options: ModelOptions | None = None, widen_to: int | None = None
) -> tuple[Model, Checkpoint]:
    """Build the network of the weights where training scripts put them, or of the only others in the file that fit.

    Returns:
        The network, which names what was chosen, and the checkpoint with the weights that it took.

    Raises:
        CheckpointError: as `build_model`; or several sets of weights fit, and nothing says which is meant.
    """
    fitting: dict[str, tuple[Model, Checkpoint]] = {}
    reason = None
    try:
        fitting[_named(checkpoint.place)] = build_model(checkpoint, options, widen_to), checkpoint
    except MisfitError as error:
        if not checkpoint.others:
            raise
        reason = error
    if reason is not None or not checkpoint.usual:
        for place in checkpoint.others:
            with suppress(MisfitError):
                other = read_tensors(checkpoint.source, place)
                fitting[_named(place)] = build_model(other, options, widen_to), other
    if len(fitting) > 1:
        problem = f"holds several sets of weights that fit ({some(list(fitting), 8)}), and does not say which is meant"
        raise refusal(checkpoint.path, problem, "save the one to measure in a file of its own")
    if not fitting:
        assert reason is not None
        raise reason
    ((model, chosen),) = fitting.values()
    return replace(model, remarks=(*_choice(chosen), *model.remarks)), chosen


def _choice(checkpoint: Checkpoint) -> list[str]:
    """What is to be said of the place of the weights, where the file has others or it is no usual one."""
    if checkpoint.usual and not checkpoint.others:
        return []
    where = f"under {_named(checkpoint.place)}" if checkpoint.place else "at the top"
    others = f"; not used beside them: {some([_named(place) for place in checkpoint.others])}"
    return [f"its weights are those {where} of the file{others if checkpoint.others else ''}"]


def _named(place: Keys) -> str:
    return ".".join(place)[:80] or "the top"


def _build_network(checkpoint: Checkpoint, options: ModelOptions, widen_to: int | None = None) -> Model:
    """The network that the weights are of, by their names and by what lies beside them."""
    model = _build_known(checkpoint, options, widen_to)
    return replace(model, packages=packages_of(model.module))


def _build_known(checkpoint: Checkpoint, options: ModelOptions, widen_to: int | None) -> Model:
    if is_nnunet(checkpoint, options):
        return build_nnunet(checkpoint, options)
    if options.arch is not None:
        return build_from_code(checkpoint, options.arch, options)
    if checkpoint.source.bundle is not None:
        return build_bundle(checkpoint, checkpoint.source.bundle, options)
    return build_unet(checkpoint, options, widen_to)


def _build_program(checkpoint: Checkpoint, program: Program, options: ModelOptions) -> Model:
    """The network of the program's weights if it gives the program's answers, since every backend can run that.

    Else the program itself, which some cannot run.
    """
    options = fit_tile(checkpoint, program, options)
    network, reason = _recognise(checkpoint, options)
    tile = network.tile if network else options.tile or REFERENCE_TILE
    answers = answers_to_noise(checkpoint, program, tile, options.task, network.subtypes if network else None)
    if network is not None:
        error = relative_error(network, answers)
        if error <= TOLERANCE:
            how = "bit for bit" if error == 0 else f"up to rounding (relative error {error:.1g})"
            remark = f"{name_of(program)} was replaced by {network.architecture} of its weights, which answers"
            return replace(network, remarks=(*network.remarks, f"{remark} as it does on a tile of noise, {how}"))
        reason = f"its weights fit {network.architecture}, but that answers otherwise (relative error {error:.1g})"
    return build_program(checkpoint, program, options, tile, reason)


def _recognise(checkpoint: Checkpoint, options: ModelOptions) -> tuple[Model | None, str]:
    """The network that a program's weights are of; or None, and the reason."""
    if not checkpoint.state:
        return None, "it keeps its weights as constants, without names"
    try:
        return _build_network(checkpoint, options), ""
    except CheckpointError:
        return None, "its weights are not those of a network that is known here"
