"""A checkpoint's weights in a network: all of them, and nothing else."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.errors import misfit, refusal, some
from models.reader.checkpoint import Checkpoint, is_counter

_COMPILED = "_orig_mod."
_NORM_COUNTER = "num_batches_tracked"  # of no use outside training
_USUAL = ("model.", "net.", "network.", "student.")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def differences(state: Mapping[str, Tensor], module: nn.Module) -> str | None:
    """Say in words how `state` differs from what `module` wants: names missing, left over, of another shape."""
    wanted = module.state_dict()
    kinds = {
        "missing": [name for name in wanted if name not in state],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    return ", ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names) or None


def without_counters(checkpoint: Checkpoint, wanted: Iterable[str] = ()) -> tuple[Checkpoint, tuple[str, ...]]:
    """Set the counters aside that a FLOP profiler left among the weights, and name them; not those that are wanted."""
    counters = [name for name in checkpoint.state if is_counter(name)]
    if not counters or any(map(is_counter, wanted)):
        return checkpoint, ()
    state = {name: tensor for name, tensor in checkpoint.state.items() if name not in counters}
    number = "a counter" if len(counters) == 1 else f"{len(counters)} counters"
    remark = f"set aside: {number} that a FLOP profiler left among the weights ({some(counters)})"
    return replace(checkpoint, state=state), (remark,)


def strip_prefix(
    checkpoint: Checkpoint, anchor: str, fits: Callable[[Mapping[str, Tensor]], bool] = lambda _: True
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Keep only the network with the weight `anchor`, where it lies beside others under a prefix; say what was left.

    A training class saves its loss's weights or a teacher beside the network, so that not all names share its prefix.
    Of several such networks one whose prefix says ``model`` or ``net`` is taken; where none does, `fits` tells them
    apart.

    Raises:
        CheckpointError: several fit.
    """
    dotted = f".{anchor}"
    prefixes = [name.removesuffix(anchor) for name in checkpoint.state if name.endswith(dotted)]
    if anchor in checkpoint.state or not prefixes:
        return checkpoint, ()
    fitting = [prefix for prefix in prefixes if fits(_under(prefix, checkpoint.state))] or prefixes[:1]
    prefix = next((known for known in _USUAL if known in fitting), fitting[0])
    if len(fitting) > 1 and prefix not in _USUAL:
        problem = f"holds several networks that fit, under {some(fitting)}, and does not say which"
        raise refusal(checkpoint.path, problem, "save the state_dict() of the one to measure")
    state = _under(prefix, checkpoint.state)
    aside = [name for name in checkpoint.state if not name.startswith(prefix)]
    inside = replace(
        checkpoint,
        wrappers=(*checkpoint.wrappers, prefix),
        state=state,
        nonfinite=tuple(name.removeprefix(prefix) for name in checkpoint.nonfinite if name.startswith(prefix)),
    )
    if not aside:
        return inside, ()
    return inside, (f"its weights are those under {prefix[:80]} of the file; not used beside them: {some(aside)}",)


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def refuse_unusable(checkpoint: Checkpoint, names: Iterable[str] | None = None) -> None:
    """Refuse weights that are no floating-point numbers (counters excepted), or that diverged.

    Raises:
        CheckpointError: `names` (all, if None) hold integers, NaN or infinity.
    """
    checked = set(checkpoint.state if names is None else names)
    odd = [
        f"{name} {tensor.dtype}"
        for name, tensor in checkpoint.state.items()
        if name in checked and tensor.dtype not in DTYPES
    ]
    if odd:
        remedy = "give the floating-point weights it was made from"
        raise refusal(checkpoint.path, f"holds weights that are not 16, 32 or 64 bit floats ({some(odd)})", remedy)
    diverged = [name for name in checkpoint.nonfinite if name in checked]
    if diverged:
        problem = f"holds NaN or infinity in {some(diverged)}"
        raise refusal(checkpoint.path, problem, "use a checkpoint from before the training diverged")


def match_state(
    checkpoint: Checkpoint, network: nn.Module, name: str, remedy: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights under the names with which the network loads them, and what is to be said of others beside them.

    Prefixes that reading took off may have been the network's own, and ``_orig_mod.`` stands before what was compiled,
    at any depth. Whether they fit is for PyTorch to say: its layers and the network's own hooks load older names too,
    as those of ``weight_norm``, and norms without their counters.

    Raises:
        CheckpointError: they are not the weights of `network`, which the message calls `name`, or cannot be used.
    """
    checkpoint, counters = without_counters(checkpoint, network.state_dict())
    first = next(iter(network.state_dict()), "")
    inside, aside = strip_prefix(checkpoint, first, lambda state: _fits(state, network))
    prefixes = [name for name in checkpoint.wrappers if name.endswith(".")]
    sources = [(inside, "", aside)] if aside else []
    sources += [(checkpoint, "".join(prefixes[at:]), ()) for at in range(len(prefixes), -1, -1)]
    states = []
    for source, prefix, said in sources:
        names = _own_names(source.state, network, prefix)
        state = {names[key]: tensor for key, tensor in source.state.items()}
        if _fits(state, network):
            counted = {key for key, tensor in network.state_dict().items() if not tensor.is_floating_point()}
            refuse_unusable(source, [key for key, own in names.items() if own not in counted])
            return state, (*counters, *said, *_remarks(state, network))
        states.append(state)
    closest = max(states, key=lambda state: len(state.keys() & network.state_dict().keys()))
    problem = f"its weights are not those of {name}: {differences(closest, network)}"
    raise misfit(checkpoint.path, problem, remedy)


def _own_names(state: Iterable[str], network: nn.Module, prefix: str) -> dict[str, str]:
    """What the network calls each weight of the file, under `prefix`."""
    compiled = {name.replace(_COMPILED, ""): name for name in network.state_dict()}
    names = {key: (prefix + key).replace(_COMPILED, "") for key in state}
    if len(set(names.values())) < len(names):  # of a network beside its compiled self
        return {key: prefix + key for key in names}
    return {key: compiled.get(name, name) for key, name in names.items()}


def _fits(state: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Whether PyTorch loads it, all of it and nothing else. What it has copied by then is overwritten by what fits."""
    if differences(state, network) is None:
        return True
    try:
        nn.Module.load_state_dict(network, dict(state))  # not one of the network's own, which may pass over names
    except Exception:  # of PyTorch, or of the network's own hooks
        return False
    return True


def _remarks(state: Mapping[str, Tensor], network: nn.Module) -> tuple[str, ...]:
    left = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(_NORM_COUNTER)}
    otherwise = differences(left | dict(state), network)
    return (
        () if otherwise is None else (f"its weights have other names than the network's, which it loads: {otherwise}",)
    )


def load_state(state: Mapping[str, Tensor], module: nn.Module) -> nn.Module:
    """Load `state`, which fits, into `module` as float32; ready for inference: on the CPU, eval mode, no gradients.

    A module on the meta device takes the tensors themselves where they are float32; any other is copied into, so that
    tensors it shares stay shared.
    """
    on_meta = any(tensor.is_meta for tensor in module.state_dict().values())
    converted = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if not on_meta:
        module = module.cpu().float()
    module.load_state_dict(converted, assign=on_meta)
    for parameter in module.parameters():  # requires_grad_ is not there in every program
        parameter.requires_grad = False
    try:
        return module.eval()
    except NotImplementedError:  # of an exported program, whose mode is part of it
        del vars(module)["train"], vars(module)["eval"]
        return module.eval()
