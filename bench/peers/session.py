"""What the harness sees of a peer: a session to warm up and to ask for evidence, and the pipeline around it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.machine.clock import Stopwatch
from bench.pipeline.finite import TileCounts, is_finite, overflow
from bench.pipeline.merge import foreground_mass, vote
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import CasePipeline, InferenceSettings
from engines.base import Session, Target
from engines.evidence.mac_counter import layers_for
from engines.pytorch.session import Forward, TorchSession
from models.ensemble import members_of

if TYPE_CHECKING:
    from models.model import Model


class PeerSession(TorchSession):
    """A peer's network, or ensemble, as the peer calls it, and what makes the peer's pipeline around it."""

    def __init__(
        self,
        forward: Forward,
        model: "Model",
        target: Target,
        case_pipeline: Callable[[InferenceSettings], CasePipeline],
        details: Mapping[str, Any],
    ) -> None:
        members = members_of(model.module)
        layers = layers_for(replace(model, module=members[0]), target) * len(members)
        super().__init__(forward, layers, target, details=lambda: details)
        self.case_pipeline = case_pipeline


def case_pipeline(session: Session, settings: InferenceSettings, device: str) -> CasePipeline:
    """The pipeline around a session: a peer's own, and ours around every other."""
    if isinstance(session, PeerSession):
        return session.case_pipeline(settings)
    return Pipeline(session, settings, device)


class Mirrored(nn.Module):
    """A network whose logits of a tile are the mean over its mirrors, as our pipeline takes it, for a library's window.

    Args:
        flips: as of `InferenceSettings.flips`.
    """

    def __init__(self, network: nn.Module, flips: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.network = network
        self._flips = [[2 + axis for axis in axes] for axes in flips]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, D, H, W]`` to ``[B, classes, D, H, W]`` and ``[B, K]``."""
        sums: list[Tensor] = []
        for axes in self._flips:
            segmentation, classification = self.network(x.flip(axes))
            logits = segmentation.flip(axes), classification
            sums = [total + more for total, more in zip(sums, logits, strict=True)] if sums else list(logits)
        segmentation, classification = (total / len(self._flips) for total in sums)
        return segmentation, classification


def mirrored(network: nn.Module, settings: InferenceSettings) -> nn.Module:
    """The network with the test-time augmentation of the run; itself without any."""
    return Mirrored(network, settings.flips) if settings.mirror_axes else network


class Voting(nn.Module):
    """A network as sliding windows want it: it returns the segmentation, and keeps what the tiles say of the class.

    A library that mirrors tiles by itself calls it for each mirror, which then has a vote of its own.

    Attributes:
        tiles: that went through since `start`.
        network_ns: nanoseconds in the network alone, since then; says nothing on CUDA, where work is only launched.
    """

    def __init__(self, network: nn.Module, settings: InferenceSettings) -> None:
        super().__init__()
        self.network = network
        self._classifies = settings.subtypes > 0
        self._overlapping = settings.painting is not None
        self._counts: TileCounts | None = None
        self.start()

    def start(self) -> None:
        """Forget the last case."""
        self.tiles = self.network_ns = 0
        self._votes: list[Tensor] = []
        self._foreground: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, D, H, W]`` to ``[B, classes, D, H, W]``."""
        begin = time.perf_counter_ns()
        segmentation: Tensor
        segmentation, classification = self.network(x)
        self.network_ns += time.perf_counter_ns() - begin
        self.tiles += len(x)
        if self._counts is not None:
            self._counts.add(segmentation, classification)
        if self._classifies:
            self._foreground += list(foreground_mass(segmentation.float(), self._overlapping))
            self._votes += list(classification.float())
        return segmentation

    def subtype(self) -> int | None:
        """Class of the case, by `vote`; None where the network has no classification."""
        if not self._classifies:
            return None
        return vote(torch.stack(self._votes), torch.stack(self._foreground))

    def refuse_not_finite(self, logits: Tensor | None, again: Callable[[], object]) -> None:
        """Refuse a case whose merged `logits`, or whose tiles' classes, are NaN or infinite.

        None stands for sums in float16 that nnU-Net refused itself. Only then `again`, which runs the case's tiles,
        is called, to count those at fault.

        Raises:
            NotFiniteError: names their share.
        """
        if logits is not None and is_finite(logits) and (not self._votes or is_finite(torch.stack(self._votes))):
            return
        self._counts = TileCounts(self._classifies)
        again()
        raise self._counts.error(overflow(torch.float16 if logits is None else logits.dtype))


@contextmanager
def windows(watch: Stopwatch, voting: Voting, target: Target) -> Iterator[None]:
    """Time a library's sliding window: what the network takes in it is ``forward``, the rest ``stitch``.

    On CUDA the two cannot be separated without waiting after each tile, which the peer does not do: there all of it is
    ``forward``.
    """
    voting.start()
    with watch.stage("forward", device=True):
        yield
    if not target.on_cuda:
        watch.stages_ns["stitch"] = watch.stages_ns["forward"] - voting.network_ns
        watch.stages_ns["forward"] = voting.network_ns
