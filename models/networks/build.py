"""Models of networks: of the reference U-Net from its weights alone, of any other that is there already."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import misfit, refusal, sides, some
from models.model import REFERENCE_TILE, Model, Program, first_width, weights_sha256
from models.networks.batch_norm_folding import fold_batch_norms
from models.networks.channels import NAME_IT, SIGMOIDS, counted, other_count, run_on_noise
from models.networks.dataflow import Observer
from models.networks.outputs import OutputError, Pair, find_outputs
from models.networks.unet import BATCH, FIRST_WEIGHT, MultiTaskUNet, Shape
from models.networks.weights import differences, load_state, refuse_unusable, strip_prefix, without_counters
from models.networks.widening import widen
from models.networks.window import window_of
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.task import PANCREAS, Task, TaskError
from models.task_file import task_from_values

UNET = "multitask-unet"
_READS, _GRADIENTS = "hands values of the image to Python", "computes gradients"
_TRAINS = "has layers in training mode"


def build_unet(checkpoint: Checkpoint, options: ModelOptions, widen_to: int | None) -> Model:
    """Build the reference network, of the shape that the weights' names and shapes say.

    It is for the reference's task, unless the checkpoint carries another, or `options` say otherwise.

    Raises:
        CheckpointError: the weights are of another network, are not floating point, hold NaN or infinity,
            or cannot be widened to `widen_to`; the tile or the task does not suit the network.
    """
    checkpoint, counters = without_counters(checkpoint)
    checkpoint, aside = strip_prefix(checkpoint, FIRST_WEIGHT)
    remarks = (*counters, *aside)
    task = options.task or task_in(checkpoint) or PANCREAS
    shape = Shape.of(checkpoint.state)
    if task is not PANCREAS:
        shape = shape.for_task(len(task.channels), len(task.output_labels), checkpoint.state)
    module = _loaded_unet(checkpoint, shape, task)
    try:
        task_of(task, shape.channels, shape.classes, shape.subtypes)
    except OutputError as error:
        raise refusal(checkpoint.path, str(error), error.remedy) from None
    if widen_to is not None:
        try:
            module = widen(module, widen_to).requires_grad_(False)
        except ValueError as error:
            raise refusal(checkpoint.path, f"cannot be widened: {error}", "ask for a multiple of it") from None
    if shape.norm == BATCH:
        folded = f"{fold_batch_norms(module)} batch norms (eps 1e-5) folded into the convolutions before them"
        remarks = (*remarks, f"{folded}, exact up to rounding")
    window, said = window_of(options, task, checkpoint.window)
    return Model(
        module=module,
        architecture=UNET,
        width=shape.width if widen_to is None else widen_to,
        tile=_divisible(checkpoint.path, options.tile or REFERENCE_TILE, 2**shape.poolings),
        window=window,
        sha256=weights_sha256(module),
        task=task,
        labels=task.output_labels,
        painting=task.output_painting,
        subtypes=shape.subtypes,
        remarks=(*remarks, *said),
        evidence=shape.evidence(checkpoint.state),
    )


def task_in(checkpoint: Checkpoint) -> Task | None:
    """The task that the checkpoint carries.

    Raises:
        CheckpointError: it cannot be used.
    """
    if not checkpoint.task:
        return None
    try:
        return task_from_values(checkpoint.task, "in the checkpoint")
    except TaskError as error:
        raise refusal(
            checkpoint.path, f"carries a task that cannot be used: {error}", "give another with --task"
        ) from None


def _loaded_unet(checkpoint: Checkpoint, shape: Shape, task: Task) -> MultiTaskUNet:
    with torch.device("meta"):
        module = MultiTaskUNet(shape=shape)
    counters = [name for name in checkpoint.state if name.endswith(".num_batches_tracked")]
    state = {name: tensor for name, tensor in checkpoint.state.items() if name not in counters}
    state |= {name: torch.zeros((), dtype=torch.int64) for name in module.state_dict() if name.endswith("tracked")}
    wrong = differences(state, module)
    if wrong:
        problem = f"is not the reference U-Net ({UNET}, {shape}){_for(task)}; its tensors: {wrong}"
        remedy = f"give a checkpoint of {UNET}, or name the code of your own network with --arch FILE.py:FACTORY"
        if task is PANCREAS and shape.counts_otherwise(state):
            remedy = "say what its channels and labels are with --task FILE.toml"
        raise misfit(checkpoint.path, problem, remedy)
    refuse_unusable(checkpoint, [name for name in checkpoint.state if name not in counters])
    load_state(state, module)
    return module


def _for(task: Task) -> str:
    """What another task than the reference's asks of a network."""
    if task is PANCREAS:
        return ""
    channels, outputs = counted(len(task.channels), "channel"), counted(len(task.output_labels), "output")
    return f" for the task {task.name}, of {channels} and {outputs}"


def _divisible(path: Path, tile: tuple[int, int, int], multiple: int) -> tuple[int, int, int]:
    """Refuse a tile that the network's poolings do not divide."""
    if any(side % multiple for side in tile):
        problem = f"its poolings need tiles of multiples of {multiple}, and {sides(tile)} is not"
        raise refusal(path, problem, "choose another with --tile")
    return tile


def _remarks_on_probabilities(segmentation: Tensor, task: Task) -> list[str]:
    """What is said of a network that ends in a softmax; one that ends in a sigmoid is refused.

    Raises:
        OutputError: overlapping regions are painted where a logit is above 0, which every probability is.
    """
    if bool((segmentation < 0).any() or (segmentation > 1).any()):
        return []
    if task.output_painting is not None:
        raise OutputError(
            "its outputs all lie between 0 and 1, as probabilities do, and regions are painted where a logit is above "
            "0",
            "leave the sigmoid at its end out",
        )
    sums = segmentation.sum(dim=1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return []
    return ["its outputs add up to 1, as after a softmax: leave that out, since what weighs tiles takes logits"]


def describe_network(
    network: nn.Module, architecture: str, tile: tuple[int, int, int], window: tuple[float, float], batch: int = 1,
    task: Task | None = None, channels: int | None = None,
) -> Model:  # fmt: skip
    """Describe a loaded network after running it once on `batch` tiles of noise.

    Args:
        task: what it is for; None for a network of the pancreas.
        channels: of its input, where the caller knows them and will say itself what its outputs mean.

    Raises:
        OutputError: its outputs are no segmentation, with or without a classification, or not of its task.
    """
    x, (returned, observer, autograd) = run_on_noise(
        lambda noise: _observed(network, noise), network, (batch, *tile), task, channels
    )
    outputs = find_outputs(returned, tile, task)
    logits = outputs.logits(returned)
    classes, subtypes = logits[0].shape[1], logits[1].shape[1] if logits[1:] else 0
    known = task_of(task, x.shape[1], classes, subtypes) if channels is None else PANCREAS
    training = any(part.training for part in network.modules())
    only_python = " and ".join([_READS] * observer.reads_values + [_GRADIENTS] * autograd + [_TRAINS] * training)
    remarks = [f"its forward {only_python}: backends that need a graph are left out"] if only_python else []
    if observer.types:
        remarks += [f"its forward computes in {some(sorted(observer.types))} beside float32"]
    if observer.draws:
        drawn = some(sorted(observer.draws))
        remarks += [f"its forward draws random numbers ({drawn}): two passes give two answers"]
    remarks += outputs.remarks
    if subtypes != len(known.classes):
        remarks += [
            f"it tells {subtypes} subtypes apart" if subtypes else "it has no classification: F1 is not applicable"
        ]
    if channels is None:
        remarks += _remarks_on_probabilities(logits[0], known)
    if task is None and channels is None:
        remarks += [f"no task is named: its classes are taken for {', '.join(list(known.labels)[:classes])}"]
        others = other_count(network, (batch, *tile))
        if others is not None:
            remarks += [f"it runs on {counted(others, 'channel')} too, and is taken for a network of 1"]
        remarks += ["it has no lesion class: lesion DSC is not applicable"] if classes == 2 else []
    convert = any(tensor.dtype != torch.float32 for tensor in logits)
    paths = outputs.segmentation, outputs.classification
    module = Pair(network, *paths, convert, autograd, outputs.binary).eval()
    return Model(
        module=module,
        architecture=architecture,
        width=first_width(network),
        tile=tile,
        window=window,
        sha256=weights_sha256(module),
        task=known,
        labels=known.output_labels[:classes] if channels is None else tuple(range(classes)),
        painting=known.output_painting,
        subtypes=subtypes,
        only_python=only_python,
        mixed=bool(observer.types),
        remarks=tuple(remarks),
    )


def task_of(task: Task | None, channels: int, classes: int, subtypes: int) -> Task:
    """The task of a network of so many channels, classes of voxels and subtypes: `task`, or else the pancreas.

    Without a task that is for networks of 1 channel and 2 or 3 classes, whatever their subtypes.

    Raises:
        OutputError: the task has another number of something, or there is none.
    """
    if task is None:
        if channels == 1 and classes in (2, 3):
            return PANCREAS
        takes, gives = counted(channels, "channel"), counted(classes, "class", "classes")
        raise OutputError(
            f"its network takes {takes} and gives {gives}, and nothing says what they are", _remedy(classes == 1)
        )
    labels = sorted(task.labels, key=lambda name: task.labels[name])
    _refuse_other(task, f"takes {counted(channels, 'channel')}", channels, task.channels, "channel")
    gives, kind = f"gives {counted(classes, 'class', 'classes')}", "region" if task.regions else "label"
    sigmoids = not task.regions and classes == len(labels) - 1
    _refuse_other(task, gives, classes, [region.structure for region in task.regions] or labels, kind, sigmoids)
    if subtypes and task.classes:
        _refuse_other(task, f"tells {subtypes} subtypes apart", subtypes, task.classes, "subtype")
    return task


def _refuse_other(task: Task, does: str, number: int, names: Sequence[str], kind: str, sigmoids: bool = False) -> None:
    if number != len(names):
        has = f"{counted(len(names), kind)} ({some(list(names))})"
        raise OutputError(f"its network {does}, and the task {task.name} has {has}", _remedy(sigmoids))


def _remedy(sigmoids: bool) -> str:
    """What to do about a network of another task; with `sigmoids` it may lack a channel for the background."""
    return f"{NAME_IT}; {SIGMOIDS}" if sigmoids else NAME_IT


def _observed(network: nn.Module, x: Tensor) -> tuple[Any, Observer, bool]:
    """What `network` returns, what was seen on the way (of a program nothing), and whether it needs autograd."""
    if isinstance(network, Program):
        with torch.inference_mode():
            return network(x), Observer(), False
    observer = Observer()
    with suppress(Exception), torch.inference_mode():
        return observer.call(network, x.clone()), observer, False
    with suppress(Exception), torch.inference_mode():
        return network(x.clone()), Observer(), False  # which does not run while it is watched
    with torch.no_grad():
        return network(x), Observer(), True
