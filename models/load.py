"""Recognises a network by the names and shapes of its weights, and builds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from models.errors import refusal
from models.model import Model, weights_sha256
from models.monai.build import build_bundle, trusted_imports
from models.monai.bundle import Bundle
from models.networks.batch_norm_folding import fold_batch_norms
from models.networks.unet import BATCH, FIRST_WEIGHT, MultiTaskUNet, Shape
from models.networks.weights import differences, narrowed, put, refuse_unusable
from models.networks.widening import widen
from models.nnunet.build import build_nnunet, is_nnunet
from models.options import ModelOptions
from models.programs.recognition import build_program
from models.reader.checkpoint import Checkpoint, read_checkpoint
from models.user_code.factory import build_given, imports_for

UNET = "multitask-unet"
UNET_TILE = (64, 64, 64)  # voxels: the patch the reference network was trained on
UNET_WINDOW = (-1000.0, 1000.0)  # HU


def load_model(
    path: Path, widen_to: int | None = None, options: ModelOptions | None = None
) -> tuple[Model, Checkpoint]:
    """Read a checkpoint and build its network, widened to `widen_to` channels where that is given.

    With ``options.arch`` it must be called, and the model be used, inside `surroundings`.

    Raises:
        CheckpointError: the file cannot be read, holds another network, or cannot be widened so.
    """
    options = options or ModelOptions()
    checkpoint = read_checkpoint(path, options.trusts(path))
    return build(checkpoint, widen_to, options), checkpoint


@contextmanager
def surroundings(options: ModelOptions | None) -> Iterator[None]:
    """The context in which a model of ``options.arch`` is loaded and used: imports find the user's modules first.

    So it is with the files of a bundle that ``options.trust`` names.
    """
    arch = options.arch if options else None
    with imports_for(arch), trusted_imports(None if arch else options):
        yield


def build(checkpoint: Checkpoint, widen_to: int | None = None, options: ModelOptions | None = None) -> Model:
    """Build the network whose weights `checkpoint` holds: float32, on the CPU, in eval mode.

    Weights that are float32 already are shared with ``checkpoint.state``, not copied.

    Raises:
        CheckpointError: the weights are of another network, are not floating point, hold NaN or infinity,
            or cannot be widened to `widen_to`; the tile does not suit the network.
    """
    options = options or ModelOptions()
    if checkpoint.network is not None and options.arch is None:
        return build_program(checkpoint, checkpoint.network, options, build)
    if is_nnunet(checkpoint, options):
        return build_nnunet(checkpoint, options)
    if options.arch is not None:
        return build_given(checkpoint, options.arch, options.tile, options.window)
    if (bundle := Bundle.of(checkpoint.path)) is not None:
        return build_bundle(checkpoint, bundle, options)
    return _unet(checkpoint, widen_to, options)


def _unet(checkpoint: Checkpoint, widen_to: int | None, options: ModelOptions) -> Model:
    checkpoint, remarks = narrowed(checkpoint, FIRST_WEIGHT)
    shape = Shape.of(checkpoint.state)
    with torch.device("meta"):
        module = MultiTaskUNet(shape=shape)
    counters = [name for name in checkpoint.state if name.endswith(".num_batches_tracked")]
    state = {name: tensor for name, tensor in checkpoint.state.items() if name not in counters}
    state |= {name: torch.zeros((), dtype=torch.int64) for name in module.state_dict() if name.endswith("tracked")}
    wrong = differences(state, module)
    if wrong:
        found = f"is not the reference U-Net ({UNET}, {shape}); its tensors: {wrong}"
        remedy = f"give a checkpoint of {UNET}, or name the code of your own network with --arch FILE.py:FACTORY"
        raise refusal(checkpoint.path, found, remedy)
    refuse_unusable(checkpoint, [name for name in checkpoint.state if name not in counters])
    put(state, module)
    if widen_to is not None:
        try:
            module = widen(module, widen_to).requires_grad_(False)
        except ValueError as error:
            raise refusal(checkpoint.path, f"cannot be widened: {error}", "ask for a multiple of it") from None
    if shape.norm == BATCH:
        folded = f"{fold_batch_norms(module)} batch norms (eps 1e-5) folded into the convolutions before them"
        remarks = (*remarks, f"{folded}, exact up to rounding")
    return Model(
        module=module,
        architecture=UNET,
        width=shape.width if widen_to is None else widen_to,
        tile=_tile(checkpoint.path, options.tile or UNET_TILE, 2**shape.poolings),
        window=options.window or UNET_WINDOW,
        sha256=weights_sha256(module),
        remarks=remarks,
        evidence=shape.evidence(checkpoint.state),
    )


def _tile(path: Path, tile: tuple[int, int, int], multiple: int) -> tuple[int, int, int]:
    """Refuse a tile that the network's poolings do not divide."""
    if any(side % multiple for side in tile):
        found = f"its poolings need tiles of multiples of {multiple}, and {' x '.join(map(str, tile))} is not"
        raise refusal(path, found, "choose another with --tile")
    return tile
