"""How many images a network takes together: as many as its task says, or else its own layers."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.errors import one_line, some
from models.model import Program
from models.networks.outputs import OutputError
from models.task import Task

NAME_IT = "name the task that it was trained for with --task FILE.toml"
Returned = TypeVar("Returned")


def run_on_noise(
    run: Callable[[Tensor], Returned], network: nn.Module, sides: tuple[int, ...], task: Task | None = None
) -> tuple[Tensor, Returned]:
    """Call `run` on noise ``[B, C, D, H, W]`` of `sides` B, D, H, W; return the noise and what came back.

    C is what the task says; else what the program takes; else what the first convolution of `network` reads, or 1.

    Raises:
        OutputError: the network takes another number than the task says, or none of several that were tried.
    """
    batch, *tile = sides
    failures = dict[int, Exception]()
    for channels in _counts(network, task):
        x = torch.rand(batch, channels, *tile, generator=torch.Generator().manual_seed(0))
        try:
            return x, run(x)
        except Exception as error:  # of code that is not ours anything can come
            failures[channels] = error
    first = next(iter(failures.values()))
    reads = _read_by(network)
    if task is not None and reads not in (0, len(task.channels)):
        has = f"has {len(task.channels)} ({some(list(task.channels))})"
        raise OutputError(f"its network takes {counted(reads, 'channel')}, and the task {task.name} {has}", NAME_IT)
    if len(failures) > 1:
        tried = " nor on ".join(map(str, failures))
        problem = f"its network runs neither on {tried} channel ({one_line(first)})"
        raise OutputError(problem, "name its channels with --task FILE.toml, or choose another tile with --tile")
    raise first


def counted(number: int, what: str, plural: str = "") -> str:
    """``1 channel``, ``2 channels``."""
    return f"{number} {what if number == 1 else plural or what + 's'}"


def _counts(network: nn.Module, task: Task | None) -> tuple[int, ...]:
    """Numbers of channels to try, the likeliest first."""
    if task is not None:
        return (len(task.channels),)
    if isinstance(network, Program) and network.takes[1] is not None:
        return (network.takes[1],)
    return tuple(dict.fromkeys((_read_by(network) or 1, 1)))


def _read_by(network: nn.Module) -> int:
    """Channels that the first convolution of `network` reads, of a program its first weight of one; 0 if unknown."""
    if isinstance(network, Program) and network.takes[1] is not None:
        return network.takes[1]
    if isinstance(network, Program):
        return next((int(weight.shape[1]) for weight in network.state_dict().values() if weight.ndim == 5), 0)
    return next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv3d)), 0)
