"""Whether what ran is what a backend's name promises."""

from collections import Counter
from collections.abc import Mapping, Sequence

from engines.base import Backend, Evidence, Target
from engines.layers import Layer

# The least share of the multiply-accumulates that must have run in the precision of the backend's name. FP32 promises
# that nothing was lowered: of it, all that the runtime reports.
REQUIRED_SHARE = {"fp32": 0.9999, "tf32": 0.5, "fp16": 0.5, "bf16": 0.5, "int8": 0.5}

_HALVES = ("fp16", "bf16")


def evidence_mismatch(
    backend: Backend, target: Target, evidence: Evidence, layers: Sequence[Layer] | None = None
) -> str | None:
    """Say in one line how what ran differs from what the row of a backend promises; None where it does not.

    | | what is asked of the evidence |
    |---|---|
    | provider | every part of it is that of the row's runtime, on the target's device |
    | shares | they add up to 1; of FP32 there may be none, where nothing of the network was counted |
    | unknown precision | at most the row's `unknown_share`, or half of the work is known to be in the row's precision |
    | the row's precision | at least `REQUIRED_SHARE`; of FP32, what is unknown within its limit left aside |

    What the network itself computes in another type than float32, as under an autocast of its own, counts as FP32:
    of `layers`, those of the target where none are given. Of the two 16-bit types either will do, since an autocast
    takes BF16 on a CPU, where layers are counted, and FP16 on a GPU.
    """
    device = "cuda" if target.on_cuda else "cpu"
    return _provider_mismatch(backend.runtime.providers[device], evidence.provider) or _precision_mismatch(
        precision_on(backend, target),
        backend.unknown_share,
        _without_own_types(layers or target.layers or (), evidence.mac_share),
    )


def precision_on(backend: Backend, target: Target) -> str:
    """The precision of a row on `target`: ``half`` is FP16 on CUDA and BF16 on a CPU."""
    return backend.precision if backend.precision != "half" else "fp16" if target.on_cuda else "bf16"


def _without_own_types(layers: Sequence[Layer], share: Mapping[str, float]) -> Mapping[str, float]:
    total, left = sum(layer.macs for layer in layers), Counter(share)
    for layer in layers:
        if layer.precision == "fp32":
            continue
        part = layer.macs / total
        for ran in dict.fromkeys((layer.precision, *(_HALVES if layer.precision in _HALVES else ()))):
            own = min(part, max(left[ran], 0.0))
            part -= own
            left.update({ran: -own, "fp32": own})
    return left


def _provider_mismatch(expected: str, provider: str) -> str | None:
    if all(part.startswith(expected) for part in provider.split(" + ")):
        return None
    return f"it ran on {provider or 'an unknown provider'}, not on {expected}"


def _precision_mismatch(promised: str, unknown_share: float, share: Mapping[str, float]) -> str | None:
    ran = ", ".join(f"{part:.1%} in {name}" for name, part in share.items() if part > 0)
    known, required = share.get(promised, 0), REQUIRED_SHARE[promised]
    unknown = sum(part for name, part in share.items() if name not in REQUIRED_SHARE)
    if not share:
        uncounted = "no multiplication of its network is counted"
        return None if promised == "fp32" else f"{uncounted}, so that {promised} is not shown"
    if not abs(sum(share.values()) - 1) <= 1e-3:  # NaN is neither
        return f"its multiply-accumulates do not add up: {ran or 'nothing was seen'}"
    if unknown > unknown_share and (promised == "fp32" or known < required):
        return f"the precision of some multiply-accumulates is unknown: {ran}"
    if known < (required - unknown if promised == "fp32" else required):
        return f"its multiply-accumulates ran {ran}, not {'all' if promised == 'fp32' else 'mostly'} in {promised}"
    return None
