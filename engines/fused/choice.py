"""Which convolutions our own kernel computes: those where it is faster than cuDNN, as timed where they are built.

What was chosen is kept in the cache of engines: two ways that take about as long would win in turns, and a network that
is opened again computes the same as before, and at once.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engines.base import EngineError, Target
from engines.cache import CHOICE, artefact, key_of
from engines.fused import triton_conv, triton_norm
from engines.fused.network import NormedConvolution, empty
from engines.fused.triton_norm import merged_coefficients

if TYPE_CHECKING:
    from models.model import Model

_FILE = "choice.json"
FURTHEST = 1e-2  # ||own - cuDNN's|| / ||cuDNN's|| in float16 that rounding explains
Timer = Callable[[Callable[[], object]], float]


def milliseconds(call: Callable[[], object]) -> float:
    """Of a call on the GPU, the median of some, the cache being emptied before each."""
    from triton.testing import do_bench

    return float(do_bench(call, warmup=5, rep=25, return_mode="median"))


@dataclass(frozen=True)
class Choice:
    """How a convolution is computed: by `way` of our own kernel, or by cuDNN where that is None; and the times."""

    way: triton_conv.Way | None
    times: str


def kept_or_chosen(
    model: "Model", network: nn.Module, target: Target, timer: Timer = milliseconds
) -> tuple[dict[str, str], bool]:
    """Let each convolution of `network` be computed as it was on such a device before; else choose, and keep that.

    Args:
        model: for which it is kept. timer: of a call.
        network: the same, rewritten for `triton_norm`, on the target's device.

    Returns:
        By the names of the convolutions, what was chosen, with the times; and whether that had been kept.

    Raises:
        EngineError: what a package holds is no choice for this network.
    """

    def build(folder: Path) -> None:
        x = torch.rand(target.input_shape, device=target.device).to(next(network.parameters()).dtype)
        with torch.inference_mode():
            chosen = choose(network, x, timer)
        (folder / _FILE).write_text(json.dumps({name: asdict(choice) for name, choice in chosen.items()}, indent=1))

    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    key = key_of(model, target, ("torch", "triton"), cudnn=cudnn, kernels=_sources_sha256())
    built = artefact(target, CHOICE, key, build)
    return _used(network, built.folder / _FILE), built.cached


def _sources_sha256() -> str:
    """Of our kernels, which change with this package."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in (triton_conv, triton_norm))
    return hashlib.sha256(sources).hexdigest()


def _used(network: nn.Module, path: Path) -> dict[str, str]:
    """Have `network` compute as the file says, which may come from a package of anyone's."""
    layers = dict(network.named_modules())
    said = dict[str, str]()
    for name, choice in json.loads(path.read_text()).items():
        layer = layers.get(name)
        way = _way_of(choice)
        if not isinstance(layer, NormedConvolution) or not (way is None or _may(layer, way)):
            raise EngineError(f"{path}: {name} is not computed by {way} here; export the package anew")
        _use(layer, way)
        said[name] = str(choice["times"])
    return said


def _way_of(choice: Mapping[str, Any]) -> triton_conv.Way | None:
    return None if choice["way"] is None else tuple(choice["way"])


def _may(layer: NormedConvolution, way: triton_conv.Way) -> bool:
    return triton_conv.takes(layer.convolution, layer.before) and way in triton_conv.ways(layer.convolution)


def _use(layer: NormedConvolution, way: triton_conv.Way | None) -> None:
    layer.convolve = None if way is None else partial(convolve, layer, way)


def choose(network: nn.Module, x: Tensor, timer: Timer = milliseconds) -> dict[str, Choice]:
    """Run `network` once, and let each convolution be computed by what is fastest for its input there.

    A way of ours counts from the norm before the convolution to the coefficients of the one behind it, as cuDNN's does.
    One whose result is not cuDNN's is left, whatever its time.

    Args:
        network: rewritten for `triton_norm`, on its device. x: ``[B, C, D, H, W]``. timer: of a call.

    Returns:
        By the names of the convolutions, what was chosen.
    """
    chosen = dict[str, Choice]()

    def hook(name: str) -> Callable[[NormedConvolution, tuple[Tensor, ...]], None]:
        def before(layer: NormedConvolution, inputs: tuple[Tensor, ...]) -> None:
            chosen[name] = _choose(layer, timer, *inputs)
            _use(layer, chosen[name].way)

        return before

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, NormedConvolution)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return chosen


def _choose(layer: NormedConvolution, timer: Timer, x: Tensor, coefficients: Tensor | None = None) -> Choice:
    if not triton_conv.takes(layer.convolution, layer.before):
        return Choice(None, "cuDNN; not of the kind that the own kernel takes")
    expected = _activated(layer, *layer.by_cudnn(x.clone(), coefficients))
    overwritten = x.clone()  # its norm is applied in place, each time anew
    cudnn_ms = timer(lambda: layer.by_cudnn(overwritten, coefficients))
    ways, failed = dict[triton_conv.Way, float](), list[str]()
    for way in triton_conv.ways(layer.convolution):
        own = partial(convolve, layer, way)
        try:
            away = float((_activated(layer, *own(x, coefficients)) - expected).norm() / expected.norm())
            if away <= FURTHEST:  # NaN is not
                ways[way] = timer(partial(own, x, coefficients))
            else:
                failed.append(f"{_named(way)} is off by {away:.2g}")
        except Exception as error:  # whatever a compiler raises costs this way alone
            failed.append(f"{_named(way)} failed: {type(error).__name__}")
    best = min(ways, key=lambda way: ways[way], default=None)
    times = [f"cuDNN {cudnn_ms * 1e3:.0f} us"]
    if best is not None:
        times.append(f"own {_named(best)} {ways[best] * 1e3:.0f} us")
        if ways[best] < cudnn_ms:
            return Choice(best, "; ".join([*reversed(times), *failed]))
    return Choice(None, "; ".join([*times, *failed]))


def _activated(layer: NormedConvolution, y: Tensor, coefficients: Tensor) -> Tensor:
    """The result behind its norm and activation, so that wrong coefficients show as a wrong convolution does."""
    layer.kernels.apply(y, coefficients, layer.slope, y)
    return y.float()


def convolve(
    layer: NormedConvolution, way: triton_conv.Way, x: Tensor, coefficients: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `layer` computes, by our own kernel."""
    convolution, (batch, _, *sides) = layer.convolution, x.shape
    out = empty(x, batch, convolution.out_channels, *sides)
    moments, length = triton_conv.convolve(x, coefficients, layer.before, convolution.weight, out, way)
    voxels = sides[0] * sides[1] * sides[2]
    return out, merged_coefficients(moments, layer.weight, layer.bias, layer.eps, length, voxels)


def _named(way: triton_conv.Way) -> str:
    return "x".join(map(str, way[:3]))
