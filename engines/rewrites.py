"""Exact rewrites of a network: the same function in other operations or another layout.

What one gains depends on runtime and device.

Each is an identity of real arithmetic, so that in floating point only the rounding differs; the tests hold them in
float64. They work on the graph that `torch.fx` traces.
"""

import copy
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from engines.base import EngineError
from engines.placement import copied

if TYPE_CHECKING:
    from models.model import Model

Shape = tuple[int, ...]


def rewritten(model: "Model", names: Iterable[str]) -> "Model":
    """`model` with the rewrites `names` done to a copy of its network, in the order of `REWRITES`.

    Raises:
        EngineError: `torch.fx` cannot trace the network, or one of them finds nothing to rewrite in it.
    """
    wanted = [name for name in REWRITES if name in set(names)]
    if not wanted:
        return model
    try:
        graph = fx.symbolic_trace(copied(model.module))
    except EngineError:
        raise
    except Exception as error:  # whatever the network's own code raises when it is called with proxies
        raise EngineError(f"torch.fx cannot trace the network, so it is not rewritten: {error}") from error
    for name in wanted:
        if not REWRITES[name](graph, (1, model.channels, *model.tile)):
            raise EngineError(f"the rewrite {name} finds nothing to rewrite in this network; leave it out")
        graph.graph.eliminate_dead_code()
        graph.recompile()
    code = hashlib.sha256(f"{model.code} {wanted}".encode()).hexdigest()  # so that no cache takes one for the other
    return replace(model, module=graph.eval(), code=code)


def drop_biases(graph: fx.GraphModule, shape: Shape) -> int:  # noqa: ARG001
    """Drop the biases of convolutions that only feed instance norms without running statistics; return how many.

    Such a norm takes the mean over each channel away, and with it every constant that was added to the channel.
    """
    count = 0
    for node in graph.graph.nodes:
        layer: Any = _module(graph, node)
        if not isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)) or layer.bias is None:
            continue
        if node.users and all(_is_plain_norm(_module(graph, user)) for user in node.users):
            layer.bias = None
            count += 1
    return count


def shuffle_upsampling(graph: fx.GraphModule, shape: Shape) -> int:  # noqa: ARG001
    """Put a 1 x 1 x 1 convolution and a rearrangement in the place of transposed convolutions; return how many.

    Where the stride is the kernel's size, no two input voxels reach the same output voxel: each gives a block of its
    own, which is a matrix product (the sub-pixel convolution of Shi et al., CVPR 2016).
    """
    count = 0
    for node in graph.graph.nodes:
        layer: Any = _module(graph, node)
        if isinstance(layer, nn.ConvTranspose3d) and _is_blockwise(layer):
            graph.set_submodule(str(node.target), Shuffled(layer))
            count += 1
    return count


def split_concatenations(graph: fx.GraphModule, shape: Shape) -> int:
    """Convolve the parts of a concatenation one by one and add the results; return how many were split.

    A convolution sums over the input's channels, so the sum over all is that of the sums over each part, and the
    concatenation need not be written.
    """
    channels = _channels(graph, shape)
    count = 0
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target is not torch.cat or _axis(node) != 1 or len(node.users) != 1:
            continue
        user = next(iter(node.users))
        layer: Any = _module(graph, user)
        if isinstance(layer, nn.Conv3d) and layer.groups == 1:
            _split(graph, user, layer, list(node.args[0]), channels)
            count += 1
    return count


def lay_channels_last(graph: fx.GraphModule, shape: Shape) -> int:  # noqa: ARG001
    """Store the weights of convolutions with the channels innermost; return of how many.

    PyTorch then chooses the kernels for that layout and hands activations on in it. Runtimes that read an exported
    graph choose a layout of their own.
    """
    layers = [layer for layer in graph.modules() if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d))]
    for layer in layers:
        layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return len(layers)


REWRITES: Mapping[str, Callable[[fx.GraphModule, Shape], int]] = {
    "drop-biases": drop_biases,
    "shuffle-upsampling": shuffle_upsampling,
    "split-concatenations": split_concatenations,
    "channels-last": lay_channels_last,
}


class Shuffled(nn.Module):
    """A transposed convolution whose stride is its kernel's size, ``[N, C, D, H, W]`` to ``[N, K, aD, bH, cW]``."""

    def __init__(self, up: nn.ConvTranspose3d) -> None:
        super().__init__()
        into, out, *self._factors = up.weight.shape
        self._out, block = out, prod(self._factors)
        self.convolution = nn.Conv3d(into, out * block, 1, bias=up.bias is not None, dtype=up.weight.dtype)
        with torch.no_grad():
            self.convolution.weight.copy_(up.weight.reshape(into, out * block).t().reshape(out * block, into, 1, 1, 1))
            if up.bias is not None and self.convolution.bias is not None:
                self.convolution.bias.copy_(up.bias.repeat_interleave(block))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self._factors
        n, _, depth, height, width = x.shape
        y: Tensor = self.convolution(x).reshape(n, self._out, a, b, c, depth, height, width)
        return y.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, self._out, depth * a, height * b, width * c)


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that `node` calls, if no other node calls it too."""
    if node.op != "call_module" or sum(other.target == node.target for other in graph.graph.nodes) != 1:
        return None
    return graph.get_submodule(str(node.target))


def _is_plain_norm(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.InstanceNorm3d) and not layer.track_running_stats


def _is_blockwise(layer: nn.ConvTranspose3d) -> bool:
    dense = set(layer.dilation) == {1} and layer.groups == 1
    unpadded = set(layer.padding) == {0} and set(layer.output_padding) == {0}
    return dense and unpadded and tuple(layer.kernel_size) == tuple(layer.stride)


def _axis(node: fx.Node) -> Any:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)


def _channels(graph: fx.GraphModule, shape: Shape) -> dict[str, int]:
    """Number of channels of each node's output for an input of `shape`; computes nothing."""
    from torch.fx.passes.shape_prop import ShapeProp

    on_meta = copy.deepcopy(graph).to("meta")
    ShapeProp(on_meta).propagate(torch.empty(shape, device="meta", dtype=next(on_meta.parameters()).dtype))
    metas = ((node.name, node.meta.get("tensor_meta")) for node in on_meta.graph.nodes)
    return {name: meta.shape[1] for name, meta in metas if hasattr(meta, "shape") and len(meta.shape) > 1}


def _split(
    graph: fx.GraphModule, user: fx.Node, layer: nn.Conv3d, parts: list[fx.Node], channels: Mapping[str, int]
) -> None:
    """Put the sum of convolutions of `parts` in the place of `user`, which convolves their concatenation."""
    weights = torch.split(layer.weight, [channels[part.name] for part in parts], dim=1)
    with graph.graph.inserting_before(user):
        total: fx.Node | None = None
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            name = f"{user.target}_part{number}".replace(".", "_")
            graph.add_submodule(name, _part(layer, weight, with_bias=number == 0))
            product = graph.graph.call_module(name, (part,))
            total = product if total is None else graph.graph.call_function(operator.add, (total, product))
    assert total is not None, "a concatenation of nothing"
    user.replace_all_uses_with(total)
    graph.graph.erase_node(user)


def _part(layer: nn.Conv3d, weight: Tensor, with_bias: bool) -> nn.Conv3d:
    part = copy.deepcopy(layer)
    part.in_channels, part.weight = weight.shape[1], nn.Parameter(weight.detach().clone(), requires_grad=False)
    if not with_bias:
        part.bias = None
    return part
