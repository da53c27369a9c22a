"""nnU-Net as its command runs it: `nnUNetPredictor.predict_from_files`, with mirroring and processes of its own.

A process of its own reads and prepares the case, others export the mask, and a further one holds the queue between
them. nnU-Net starts them in every call and ends them with it, so a call for one case pays for all of them: they are in
the case's time, and their processor time and memory in what the case takes. It mirrors along the axes that the
checkpoint allows; where none are allowed, or the network has no plans that would say so, it does not.
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bench.data.volume import open_channels
from bench.peers.nnunet import SUFFIX, NnUNet, NnUNetPipeline
from bench.peers.session import windows
from bench.pipeline.finite import of_case
from bench.pipeline.nnunet.reader import itk_header
from bench.pipeline.settings import CaseTiming, InferenceSettings
from engines.base import Target
from models.suppress import suppress_output

if TYPE_CHECKING:
    from models.model import Model

_PROCESSES = {"preprocessing": "nnUNet_npp", "segmentation_export": "nnUNet_nps"}  # and what sets their number
_USUAL = 3  # of each: the defaults of nnUNetv2_predict


class StockNnUNet(NnUNet):
    """Opens stock nnU-Net."""

    @property
    def pipeline(self) -> type[NnUNetPipeline]:
        return StockPipeline

    def details(self, model: "Model", target: Target) -> dict[str, Any]:
        return {
            **super().details(model, target),
            "way": "nnUNetPredictor.predict_from_files, called for each case, with its own readers",
            "mirroring": _mirroring(model),
            "processes": f"1 for preprocessing, 1 for a queue and {processes()['segmentation_export']} for export, "
            "started for each case and part of its time",
            "stages": "preprocess begins with the call, and holds reading and the start of processes; write is the "
            "export, and the end of the processes",
        }


class StockPipeline(NnUNetPipeline):
    """From file to file by one call of nnU-Net."""

    def __init__(self, members: Sequence[nn.Module], target: Target, settings: InferenceSettings) -> None:
        super().__init__(members, target, settings)
        self._caller: Any = copy(self._predictor)
        self._caller.predict_logits_from_preprocessed_data = self._predict

    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """As of `NnUNetPipeline`.

        Raises:
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        open_channels(image_paths)  # refuses what no variant takes
        if self._as_stored:  # not timed: nnU-Net's users have plans
            self._configuration.configuration["spacing"] = list(itk_header(image_paths[0]).GetSpacing()[:3])
        self._watch = self._stopwatch()
        # Beside the mask, where it writes its settings too, which are no prediction.
        with tempfile.TemporaryDirectory(prefix=".nnunet-", dir=mask_path.parent) as folder, of_case(image_paths[0]):
            output = str(Path(folder, "mask"))
            start = self._mark = time.perf_counter_ns()
            with suppress_output():
                self._caller.predict_from_files([list(map(str, image_paths))], [output], **_arguments())
            Path(output + SUFFIX).replace(mask_path)
            self._take("write")
            case_ns = time.perf_counter_ns() - start
        tiles, stages_ns = self._network.tiles // self._members, self._watch.stages_ns
        return CaseTiming(subtype=self._network.subtype(), tiles=tiles, case_ns=case_ns, stages_ns=stages_ns)

    def _predict(self, data: Tensor) -> Tensor | None:
        """What nnU-Net calls between preprocessing and export."""
        self._take("preprocess")
        with windows(self._watch, self._network, self._target):
            logits = self._infer(data)
        with self._watch.stage("stitch"):
            self._network.refuse_not_finite(logits, partial(self._infer_again, data))
        self._mark = time.perf_counter_ns()
        return logits

    def _take(self, stage: str) -> None:
        """Bill what has passed since the last mark to a stage."""
        self._watch.stages_ns[stage] = time.perf_counter_ns() - self._mark


def processes() -> Mapping[str, int]:
    """How many processes nnU-Net may start for each step: as its own variables say, else as its command does."""
    return {step: int(os.environ.get(variable, _USUAL)) for step, variable in _PROCESSES.items()}


def _arguments() -> dict[str, int]:
    return {f"num_processes_{step}": count for step, count in processes().items()}


def _mirroring(model: "Model") -> str:
    if model.mirror_axes:
        return f"along {', '.join('xyz'[axis] for axis in model.mirror_axes)} of the network's input"
    return "none, as the checkpoint allows none" if model.plans else "none, as a network without plans allows none"
