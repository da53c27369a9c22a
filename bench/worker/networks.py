"""What a backend is built of, made ready in this process: threads, the networks of a checkpoint, and checks of both."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.imports import LightImports
from engines.base import TORCH

if TYPE_CHECKING:
    from bench.worker.messages import Open
    from models.model import Model


def load_networks(request: "Open", stack: ExitStack) -> "list[Model]":
    """Load the networks that `request` names, rewritten as it says; they are there until `stack` is closed.

    Nothing of it touches a GPU, which may be another worker's still: see `prepare_device`.

    Raises:
        EngineError, models.errors.CheckpointError: one cannot be used.
    """
    with LightImports():
        import torch

        from engines.probe import refuse_tile
        from engines.rewrites import rewritten
        from models.load import load_models

    target = request.target
    torch.set_num_threads(target.threads)
    torch.manual_seed(0)
    paths = (request.checkpoint, *request.further_checkpoints)
    loaded = load_models(paths, request.model_options, request.widen_to)
    models = [rewritten(model, request.rewrites) for model in stack.enter_context(loaded)]
    if target.tile != models[0].tile:
        refuse_tile(models[0].module, target)
    return models


def prepare_device(request: "Open", model: "Model", stack: ExitStack) -> None:
    """Have CUDA's calls go to the target's device until `stack` is closed, and check PyTorch's convolutions there.

    Raises:
        EngineError: the device computes those of the network wrongly.
    """
    with LightImports():
        import torch

    target = request.target
    if target.on_cuda:
        # For libraries that ask CUDA and not us; unlike set_device it knows what "cuda" without a number means.
        stack.enter_context(torch.cuda.device(target.device))
    if request.backend.runtime == TORCH and not request.cold:
        with LightImports():
            from engines.pytorch.self_check import check_convolutions

        check_convolutions(model.module, target, request.backend.precision)
