"""Networks of nnU-Net v2 and of its multi-task forks, built from the plans by dynamic-network-architectures."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import misfit, one_line, refusal, sides, some
from models.model import Model, Plans, first_width, json_sha256, weights_sha256
from models.networks.outputs import Pair
from models.networks.weights import differences, load_state, refuse_unusable, without_counters
from models.nnunet.architecture import as_trained, class_name, planned_network
from models.nnunet.dataset import task_of
from models.nnunet.head import NetworkWithHead, head_of
from models.nnunet.plans import find_plans, has_plans
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.task import Task, TaskError, difference
from models.user_code.factory import build_from_code

_LAST = "decoder.seg_layers."  # a name that only networks of dynamic-network-architectures have
_OWN = "name the code of your own network with --arch FILE.py:FACTORY"


def is_nnunet(checkpoint: Checkpoint, options: ModelOptions) -> bool:
    """Whether the checkpoint is of nnU-Net: by the names of its weights, or the plans in it.

    With ``--arch`` it is where plans are problem, and no ``--window`` says to do without them.
    """
    if options.arch is not None:
        return has_plans(checkpoint) and options.window is None
    return any(_LAST in name for name in checkpoint.state) or has_plans(checkpoint)


def build_nnunet(checkpoint: Checkpoint, options: ModelOptions) -> Model:
    """Build the network that the plans describe, or the user's own that runs by them; deep supervision is off.

    Raises:
        CheckpointError: the plans or the network are not known, or the file does not say what its head computes.
    """
    plans = find_plans(checkpoint)
    if options.window is not None or (options.arch is None and options.tile not in (None, _patch(plans))):
        problem = "is a network of nnU-Net, whose plans fix the tile and what is done with intensities"
        raise refusal(checkpoint.path, problem, "leave --tile and --window out")
    if options.arch is not None:
        return _of_code(checkpoint, plans, options.arch, options)
    return _of_plans(checkpoint, plans, options)


def _of_code(checkpoint: Checkpoint, plans: Plans, arch: str, options: ModelOptions) -> Model:
    """The user's network, which takes its tile and its preprocessing from the plans."""
    task = _task(checkpoint, plans, options)
    model = build_from_code(checkpoint, arch, replace(options, tile=options.tile or _patch(plans), task=task))
    return replace(
        model,
        task=_task(checkpoint, plans, options, model.subtypes),
        plans=plans,
        mirror_axes=checkpoint.mirror_axes,
        code=model.code + _hash(plans),
        remarks=(*checkpoint.source.remarks, *model.remarks),
    )


def _task(checkpoint: Checkpoint, plans: Plans, options: ModelOptions, subtypes: int = 0) -> Task:
    """The task of the plans, or the user's own where it is of the same network.

    Raises:
        CheckpointError: the two disagree, or the plans' contradicts itself.
    """
    try:
        planned, wanted = task_of(plans, subtypes), options.task
    except TaskError as error:
        raise refusal(checkpoint.path, f"its dataset.json cannot be used: {error}", "correct it") from None
    if wanted is None:
        return planned
    otherwise = difference(planned, wanted)
    if otherwise is not None:
        problem = f"its dataset.json and the task {wanted.name} say {otherwise}"
        raise refusal(checkpoint.path, problem, "correct the file of --task, or leave it out")
    return wanted if planned.ignore is None else replace(wanted, ignore=planned.ignore)


def _of_plans(checkpoint: Checkpoint, plans: Plans, options: ModelOptions) -> Model:
    checkpoint, counters = without_counters(checkpoint)
    backbone, head = _parts(checkpoint)
    planned = plans.plans["configurations"][plans.configuration]["architecture"]
    architecture, changed = as_trained(planned, backbone)
    task = _task(checkpoint, plans, options)
    network, left_out = _segmentation(checkpoint, backbone, architecture, len(task.channels), len(task.output_labels))
    _refuse_patch(checkpoint, _patch(plans), network.encoder.strides)
    remarks = [*checkpoint.source.remarks, *counters, *changed]
    remarks += [f"deep supervision is off: {left_out} of its outputs left out"] if left_out else []
    module, subtypes = Pair(network, (), None), 0
    if head:
        classifier, remark = head_of(checkpoint, head, network.encoder.output_channels)
        module, subtypes = Pair(NetworkWithHead(network, classifier), (0,), (1,)), classifier.subtypes
        remarks.append(remark)
    return Model(
        module=module.eval().requires_grad_(False),
        architecture=f"nnunet-{class_name(architecture)}",
        width=first_width(network),
        tile=_patch(plans),
        window=(0.0, 1.0),
        sha256=weights_sha256(module),
        task=_task(checkpoint, plans, options, subtypes),
        labels=task.output_labels,
        painting=task.output_painting,
        subtypes=subtypes,
        plans=plans,
        mirror_axes=checkpoint.mirror_axes,
        code=_hash(plans),
        remarks=tuple(remarks),
        evidence=f"{_LAST}* among its names; {class_name(architecture)} of its plans, whose names and shapes fit",
    )


def _segmentation(
    checkpoint: Checkpoint, weights: dict[str, Tensor], architecture: Mapping[str, Any], channels: int, outputs: int
) -> tuple[Any, int]:
    """The network of the plans with `weights`, and how many outputs of deep supervision were left out of it."""
    try:
        with torch.device("meta"):
            made = planned_network(architecture, channels, outputs)
    except (ValueError, AssertionError, TypeError, IndexError) as error:
        problem = f"its nnU-Net plans {one_line(error)}"
        raise refusal(checkpoint.path, problem, "give plans that nnU-Net wrote, or the network with --arch") from None
    weights = _completed(checkpoint, weights, made)
    wrong = differences(weights, made)
    if wrong:
        problem = f"its weights are not those of its plans' {class_name(architecture)}: {wrong}"
        raise misfit(checkpoint.path, problem, "put the plans.json and dataset.json of its training beside it")
    refuse_unusable(checkpoint, [name for name in checkpoint.state if not name.endswith("num_batches_tracked")])
    network: Any = load_state(weights, made)
    left_out = len(network.decoder.seg_layers) - 1
    network.decoder.seg_layers = network.decoder.seg_layers[-1:]
    del network.decoder.encoder  # the encoder under a second name
    return network, left_out


def _refuse_patch(checkpoint: Checkpoint, patch: tuple[int, int, int], strides: list[list[int]]) -> None:
    total = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    if any(side % stride for side, stride in zip(patch, total, strict=True)):
        problem = f"its plans' patch of {sides(patch)} is no multiple of its network's strides, {sides(total)}"
        raise refusal(checkpoint.path, problem, "give the plans.json of its training")


def _parts(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The segmentation network's weights by their own names, and all others.

    Forks hold the network in another and name its encoder and decoder there once more; such second names are dropped.
    """
    state = checkpoint.state
    prefix = max({name.partition(_LAST)[0] for name in state if _LAST in name}, key=len, default="")
    parts = (f"{prefix}encoder.", f"{prefix}decoder.")
    backbone = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(parts)}
    if not backbone:
        names = some(list(state))
        raise refusal(checkpoint.path, f"has plans of nnU-Net and weights of another network ({names})", _OWN)
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(parts)}
    others = {name: tensor for name, tensor in rest.items() if not _same(tensor, backbone.get(name))}
    return backbone, others


def _completed(checkpoint: Checkpoint, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Fill in names that a file without doubles (safetensors) leaves out; refuse doubles that differ."""
    groups: dict[int, list[str]] = {}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        groups.setdefault(id(tensor), []).append(name)
    complete = dict(state)
    for names in groups.values():
        held = [name for name in names if name in state]
        if any(not _same(state[name], state[held[0]]) for name in held):
            problem = f"holds different values for {some(held)}, which are one tensor in its network"
            raise refusal(checkpoint.path, problem, "save the network's state_dict() again")
        complete |= {name: state[held[0]] for name in names if held}
    return complete


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    if tensor is other or other is None:
        return tensor is other
    return (tensor.shape, tensor.dtype) == (other.shape, other.dtype) and torch.equal(tensor, other)


def _patch(plans: Plans) -> tuple[int, int, int]:
    x, y, z = plans.plans["configurations"][plans.configuration]["patch_size"]
    return x, y, z


def _hash(plans: Plans) -> str:
    return json_sha256(plans.plans, plans.dataset, plans.configuration)
