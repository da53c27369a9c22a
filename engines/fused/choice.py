"""Which convolutions our own kernel computes: those where it is faster than cuDNN, as timed where they are built."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from engines.fused import triton_conv
from engines.fused.network import NormedConvolution, empty
from engines.fused.triton_norm import merged_coefficients

FURTHEST = 1e-2  # ||own - cuDNN's|| / ||cuDNN's|| in float16 that rounding explains
Timer = Callable[[Callable[[], object]], float]


def milliseconds(call: Callable[[], object]) -> float:
    """Of a call on the GPU, the median of some, the cache being emptied before each."""
    from triton.testing import do_bench

    return float(do_bench(call, warmup=5, rep=25, return_mode="median"))


def choose(network: nn.Module, x: Tensor, timer: Timer = milliseconds) -> dict[str, str]:
    """Run `network` once, and let each convolution be computed by what is fastest for its input there.

    A way of ours counts from the norm before the convolution to the coefficients of the one behind it, as cuDNN's does.
    One whose result is not cuDNN's is left, whatever its time.

    Args:
        network: rewritten for `triton_norm`, on its device. x: ``[B, C, D, H, W]``. timer: of a call.

    Returns:
        By the names of the convolutions, what was chosen, with the times.
    """
    chosen = dict[str, str]()

    def hook(name: str) -> Callable[[NormedConvolution, tuple[Tensor, ...]], None]:
        def before(layer: NormedConvolution, inputs: tuple[Tensor, ...]) -> None:
            chosen[name] = _choose(layer, timer, *inputs)

        return before

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, NormedConvolution)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return chosen


def _choose(layer: NormedConvolution, timer: Timer, x: Tensor, coefficients: Tensor | None = None) -> str:
    layer.convolve = None
    if not triton_conv.takes(layer.convolution, layer.before):
        return "cuDNN; not of the kind that the own kernel takes"
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
            layer.convolve = partial(convolve, layer, best)
            times.reverse()
    return "; ".join([*times, *failed])


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
