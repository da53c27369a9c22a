"""Widens a network without changing the function it computes (Net2WiderNet: Chen et al., ICLR 2016)."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from models.networks.unet import INSTANCE, MultiTaskUNet


def widen(module: MultiTaskUNet, width: int) -> MultiTaskUNet:
    """Return a network of `width` channels at its first level that computes what `module` computes.

    Every channel is repeated ``k = width / (width of module)`` times and the weights that read it are divided
    by k, so sums stay what they were. Copies of a channel lie side by side: the copies of a concatenation are
    then the concatenation of the copies, and the skips need no treatment of their own. A repeated channel has
    the mean and variance of the original, so instance norm maps it alike. Image, classes and the classifier's
    hidden layers keep their sizes. The copies are redundant: the result costs what a trained network of that
    width costs, and knows no more than `module`. Dtype, device and train or eval mode are those of `module`.

    Raises:
        ValueError: `width` is not a multiple of the module's width, or the network has batch norms.
    """
    if module.shape.norm != INSTANCE:
        raise ValueError("only networks with instance norms are widened")
    narrow = module.seg_out.in_channels
    if width < narrow or width % narrow:
        raise ValueError(f"width {width} is not a multiple of the network's width {narrow}")
    weight = module.seg_out.weight
    wide = MultiTaskUNet(shape=replace(module.shape, width=width)).to(device=weight.device, dtype=weight.dtype)
    sources: dict[str, Any] = dict(module.named_modules())
    for name, target in wide.named_modules():
        if isinstance(target, nn.InstanceNorm3d) and target.affine:
            target.weight.data = _repeated(sources[name].weight.data, target.weight)
            target.bias.data = _repeated(sources[name].bias.data, target.bias)
        if not isinstance(target, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            continue
        source = sources[name]
        into = 0 if isinstance(target, nn.ConvTranspose3d) else 1  # [in, out, ...], of the others [out, in, ...]
        copies = target.weight.shape[into] // source.weight.shape[into]
        target.weight.data = _repeated(source.weight.data, target.weight) / copies
        if target.bias is not None:
            target.bias.data = _repeated(source.bias.data, target.bias)
    return wide.train(module.training)


def _repeated(tensor: Tensor, like: Tensor) -> Tensor:
    """Repeat each channel of the first two axes in place until the shape is that of `like`."""
    for axis in range(min(tensor.ndim, 2)):
        tensor = tensor.repeat_interleave(like.shape[axis] // tensor.shape[axis], dim=axis)
    return tensor
