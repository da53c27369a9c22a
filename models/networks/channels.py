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
SIGMOIDS = "if its channels are sigmoids without a background, list them as [[regions]] in that file"
Returned = TypeVar("Returned")


def run_on_noise(
    run: Callable[[Tensor], Returned], network: nn.Module, sides: tuple[int, ...], task: Task | None,
    channels: int | None = None,
) -> tuple[Tensor, Returned]:  # fmt: skip
    """Call `run` on noise ``[B, C, D, H, W]`` of `sides` B, D, H, W; return the noise and what came back.

    C is `channels`, or what the task says; else what the program takes; else 1, if `network` runs on it; else what its
    first convolution reads.

    Raises:
        OutputError: the network takes another number than the task says, or none of several that were tried.
    """
    batch, *tile = sides
    wanted = len(task.channels) if channels is None and task is not None else channels
    failures = list[Exception]()
    counts = _counts(network, wanted)
    for count in counts:
        x = torch.rand(batch, count, *tile, generator=torch.Generator().manual_seed(0))
        try:
            returned = run(x)
        except Exception as error:  # of code that is not ours anything can come
            failures.append(error)
            continue
        if wanted not in (None, count):
            has = f"the task {task.name} has {wanted} ({some(list(task.channels))})" if task else f"not {wanted}"
            raise OutputError(f"its network takes {counted(count, 'channel')}, and {has}", NAME_IT)
        return x, returned
    if wanted is None and len(failures) > 1:
        problem = f"its network runs neither on {' nor on '.join(map(str, counts))} channel ({one_line(failures[-1])})"
        raise OutputError(problem, "name its channels with --task FILE.toml, or choose another tile with --tile")
    raise failures[0]


def counted(number: int, what: str, plural: str = "") -> str:
    """``1 channel``, ``2 channels``."""
    return f"{number} {what if number == 1 else plural or what + 's'}"


def _counts(network: nn.Module, wanted: int | None) -> list[int]:
    """Numbers of channels to try, in turn. Those beside `wanted` tell what the network takes instead."""
    if isinstance(network, Program) and network.takes[1] is not None:
        return [network.takes[1]]
    # A first convolution need not read the image: other functions may come before it, such as a product of channels.
    return list(dict.fromkeys([1 if wanted is None else wanted, _first_read(network), 1]))


def other_count(network: nn.Module, sides: tuple[int, ...]) -> int | None:
    """How many channels other than 1 `network` runs on too, by broadcasting: as many as its first convolution reads."""
    count, (batch, *tile) = _first_read(network), sides
    if count == 1 or isinstance(network, Program):
        return None
    try:
        network(torch.zeros(batch, count, *tile))
    except Exception:  # of code that is not ours anything can come
        return None
    return count


def _first_read(network: nn.Module) -> int:
    """Channels that the first convolution of `network` reads; 1 where it has none."""
    if isinstance(network, Program):
        return next((int(weight.shape[1]) for weight in network.state_dict().values() if weight.ndim == 5), 1)
    return next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv3d)), 1)
