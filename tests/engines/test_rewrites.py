"""Exact rewrites: equal in float64, each alone and all together, and refused where there is nothing to do."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from engines.base import EngineError
from engines.evidence.mac_counter import layers_in
from engines.rewrites import REWRITES, Shuffled, rewritten
from models.model import Model, weights_sha256
from models.networks.unet import MultiTaskUNet, Shape


def model_of(module: nn.Module, tile: tuple[int, int, int] = (16, 16, 16)) -> Model:
    module = module.eval()
    return Model(
        module=module,
        architecture="multitask-unet",
        width=4,
        tile=tile,
        window=(-1000.0, 1000.0),
        sha256=weights_sha256(module),
    )


def unet(**shape: object) -> Model:
    torch.manual_seed(0)
    return model_of(MultiTaskUNet(shape=Shape(4, poolings=3, **shape)).double())  # type: ignore[arg-type]


def outputs(model: Model) -> tuple[Tensor, Tensor]:
    x = torch.rand(2, 1, *model.tile, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits: tuple[Tensor, Tensor] = model.module(x)
    return logits


def assert_equal(model: Model, other: Model) -> None:
    for before, after in zip(outputs(model), outputs(other), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("names", [*([name] for name in REWRITES), list(REWRITES)], ids="+".join)
@pytest.mark.parametrize("affine", [False, True])
def test_a_rewritten_network_is_the_same_function(names, affine):
    model = unet(affine=affine)
    before = weights_sha256(model.module)
    after = rewritten(model, names)
    assert_equal(model, after)
    assert weights_sha256(model.module) == before, "the network itself stays as it is"
    assert after.code != model.code, "what was built from the one must not be taken for the other"


def test_dead_biases_are_gone_and_the_others_stay():
    module = rewritten(unet(), ["drop-biases"]).module
    kinds = (nn.Conv3d, nn.ConvTranspose3d)
    biased = {name for name, layer in module.named_modules() if isinstance(layer, kinds) and layer.bias is not None}
    assert biased == {"seg_out", "up1", "up2", "up3"}


def test_a_bias_before_a_norm_with_statistics_is_alive():
    with pytest.raises(EngineError, match="drop-biases finds nothing to rewrite"):
        rewritten(unet(norm="batch"), ["drop-biases"])


def test_a_bias_that_something_else_reads_too_is_alive():
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.convolution(x)
            return self.norm(y), y.mean(dim=(2, 3, 4))

    with pytest.raises(EngineError, match="drop-biases"):
        rewritten(model_of(Read()), ["drop-biases"])


def test_no_transposed_convolution_and_no_concatenation_is_left():
    module = rewritten(unet(), list(REWRITES)).module
    assert not any(isinstance(layer, nn.ConvTranspose3d) for layer in module.modules())
    assert "cat" not in module.code


def test_activations_are_handed_on_with_the_channels_last():
    seen = []
    module = rewritten(unet(), ["channels-last"]).module.float()
    for layer in module.modules():
        if isinstance(layer, nn.InstanceNorm3d):
            layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    module(torch.rand(2, 1, 16, 16, 16))
    assert seen
    assert all(x.is_contiguous(memory_format=torch.channels_last_3d) for x in seen)


@pytest.mark.parametrize("kernel", [(2, 2, 2), (1, 2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_an_upsampling_by_any_factors_is_shuffled(kernel, bias):
    torch.manual_seed(0)
    up = nn.ConvTranspose3d(3, 5, kernel, stride=kernel, bias=bias).double()
    x = torch.rand(2, 3, 4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(Shuffled(up)(x), up(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("options", [{"stride": 1}, {"stride": 2, "padding": 1}, {"stride": 2, "groups": 2}])
def test_an_upsampling_whose_blocks_overlap_is_left_alone(options):
    model = model_of(nn.Sequential(nn.Conv3d(1, 2, 1), nn.ConvTranspose3d(2, 2, 2, **options)))
    with pytest.raises(EngineError, match="shuffle-upsampling finds nothing"):
        rewritten(model, ["shuffle-upsampling"])


def test_a_layer_that_is_called_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up = nn.Conv3d(1, 2, 1), nn.ConvTranspose3d(2, 2, 2, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.up(self.first(x)))  # type: ignore[no-any-return]

    with pytest.raises(EngineError, match="finds nothing"):
        rewritten(model_of(Twice()), ["shuffle-upsampling"])


def test_a_network_that_cannot_be_traced_is_refused_in_one_line():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(EngineError, match=r"torch\.fx cannot trace the network") as refused:
        rewritten(model_of(Branching()), ["drop-biases"])
    assert "\n" not in str(refused.value)


def test_the_work_is_counted_on_the_rewritten_network():
    model = unet()
    single = replace(model, module=model.module.float())
    macs = [
        sum(layer.macs for layer in layers_in(each, 1, model.tile)) for each in (single, rewritten(single, REWRITES))
    ]
    assert macs[0] == macs[1]
    assert (
        len(layers_in(rewritten(single, ["split-concatenations"]), 1, model.tile))
        == len(layers_in(single, 1, model.tile)) + 3
    )
