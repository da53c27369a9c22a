"""Networks that tests of several engines use."""

from torch import Tensor, nn


class SegmentsOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, _ = self.network(x)
        return segmentation, segmentation.new_zeros(len(segmentation), 0)
