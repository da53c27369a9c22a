"""Recognises a network by the names and shapes of its weights, and builds it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import Checkpoint, read_checkpoint
from models.errors import refusal, some
from models.model import Model, weights_sha256
from models.unet import MultiTaskUNet
from models.widening import widen

UNET = "multitask-unet"
UNET_TILE = (64, 64, 64)  # voxels: the patch the reference network was trained on
UNET_WINDOW = (-1000.0, 1000.0)  # HU

_WIDTH_GIVEN_BY = "enc1.0.weight"  # [width, 1, 3, 3, 3]
_WIDEST = 1024  # beyond any network that was trained; a shape in a file may say anything
_WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_model(path: Path, widen_to: int | None = None) -> tuple[Model, Checkpoint]:
    """Read a checkpoint and build its network, widened to `widen_to` channels where that is given.

    Raises:
        CheckpointError: the file cannot be read, holds another network, or cannot be widened so.
    """
    checkpoint = read_checkpoint(path)
    return build(checkpoint, widen_to), checkpoint


def build(checkpoint: Checkpoint, widen_to: int | None = None) -> Model:
    """Build the network whose weights `checkpoint` holds: float32, on the CPU, in eval mode.

    Weights that are float32 already are shared with ``checkpoint.state``, not copied.

    Raises:
        CheckpointError: the weights are of another network, are not floating point, hold NaN or infinity,
            or cannot be widened to `widen_to`.
    """
    width = _width(checkpoint.state)
    with torch.device("meta"):
        module = MultiTaskUNet(width)
    _check_same(checkpoint, module, width)
    if checkpoint.nonfinite:
        found = f"holds NaN or infinity in {some(list(checkpoint.nonfinite))}"
        raise refusal(checkpoint.path, found, "use a checkpoint from before the training diverged")
    module.load_state_dict({name: tensor.float() for name, tensor in checkpoint.state.items()}, assign=True)
    if widen_to is not None:
        try:
            module = widen(module, widen_to)
        except ValueError as error:
            raise refusal(checkpoint.path, f"cannot be widened: {error}", "ask for a multiple of it") from None
    module.eval().requires_grad_(False)
    return Model(
        module=module,
        architecture=UNET,
        width=width if widen_to is None else widen_to,
        tile=UNET_TILE,
        window=UNET_WINDOW,
        sha256=weights_sha256(module),
    )


def _width(state: Mapping[str, Tensor]) -> int:
    """Width of the reference network in `state`; 32 where the tensors do not tell, to compare against."""
    tensor = state.get(_WIDTH_GIVEN_BY)
    told = tensor.shape[0] if tensor is not None and tensor.ndim == 5 else 0
    return told if 1 <= told <= _WIDEST else 32


def _check_same(checkpoint: Checkpoint, module: MultiTaskUNet, width: int) -> None:
    """Refuse weights that do not fit `module`, naming those that are missing, left over or of another shape."""
    state, wanted = checkpoint.state, module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    differences = [
        f"{len(names)} {kind} ({some(names)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if differences:
        found = f"is not the reference U-Net ({UNET}, width {width}); its tensors: {', '.join(differences)}"
        raise refusal(checkpoint.path, found, f"give a checkpoint of {UNET}, of any width")
    odd = [f"{name} {tensor.dtype}" for name, tensor in state.items() if tensor.dtype not in _WEIGHT_DTYPES]
    if odd:
        remedy = "give the floating-point weights it was made from"
        raise refusal(checkpoint.path, f"holds weights that are not 16, 32 or 64 bit floats ({some(odd)})", remedy)
