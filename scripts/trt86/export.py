"""A run's network for TensorRT 8.6, which `predict.py` beside this runs as a command of its own.

    python scripts/trt86/export.py RUN FOLDER [--int8]

RUN is a folder of `bench run` whose network segments tiles of one size; its baseline's tile, overlap and window count.
The ONNX files hold more than the network, so that a GPU does it: logits come weighted for their sum, and each tile's
mean probability of foreground beside them. Opset 17 is the newest that TensorRT 8.6 reads. --int8 puts Q/DQ nodes
around convolutions, with ranges from the training cases of the run's data.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout that is not installed

from bench.errors import InputError
from bench.pipeline.merge import foreground_mass
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import gaussian_weights
from bench.plan.opening import of_run
from bench.plan.resumption import recorded_calibration
from bench.progress import Unshown
from engines.base import EngineError, Target
from engines.layers import INPUT, OUTPUTS
from engines.tensorrt.qdq import chosen_scales, write
from models.load import load_models
from models.model import Model
from models.suppress import suppress_output
from reports.records.record import RunRecord
from reports.records.store import read_run

OPSET = 17


class Weighted(nn.Module):
    """A network whose logits of a tile are ready to be summed up."""

    def __init__(self, network: nn.Module, settings: InferenceSettings) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weights", gaussian_weights(settings.tile))
        self._overlapping = settings.painting is not None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``[1, C, D, H, W]`` to weighted logits ``[1, classes, D, H, W]``, ``[1, K]``, and foreground ``[1]``."""
        segmentation, classification = self.network(x)
        return segmentation * self.weights, classification, foreground_mass(segmentation, self._overlapping)


def write_network(model: Model, settings: InferenceSettings, path: Path) -> None:
    """The network in FP32, in the form that `Weighted` gives it."""
    network, x = Weighted(model.module, settings).eval(), torch.zeros(1, model.channels, *settings.tile)
    with suppress_output(), torch.no_grad():
        # The newer exporter begins at opset 18.
        torch.onnx.export(network, (x,), str(path), dynamo=False, opset_version=OPSET, input_names=[INPUT],
                          output_names=[*OUTPUTS, "foreground"])  # fmt: skip


def write_int8(model: Model, target: Target, fp32: Path, path: Path) -> dict[str, Any]:
    """The file `fp32` with Q/DQ nodes, and which layers have them."""
    scales, details = chosen_scales(model, target)
    write(fp32, {f"network.{name}": each for name, each in scales.items()}, path)
    return details


def calibrated(target: Target, record: RunRecord, settings: InferenceSettings) -> Target:
    """With tiles of the training cases beside the run's own, as an INT8 variant of it would have.

    Raises:
        InputError: the cases are no longer the run's.
        EngineError: there are no training cases.
    """
    own = replace(record.settings.variants[record.baseline], backend="tensorrt-int8")
    tiles = recorded_calibration(record, replace(record.settings, variants={"int8": own}), settings, Unshown())
    if tiles[target.tile] is None:
        raise EngineError(
            f"{record.data.root} has no training cases beside those of the run, of which INT8 takes ranges"
        )
    return replace(target, calibration=tiles[target.tile])


def case_json(settings: InferenceSettings, outputs: int) -> str:
    """What `predict.py` must know of a case."""
    kept = ("tile", "overlap", "window", "labels", "painting", "channels", "subtypes")
    return json.dumps({name: getattr(settings, name) for name in kept} | {"outputs": outputs}, indent=1)


def clear(folder: Path) -> None:
    """Make an empty folder, or take away what was made of an earlier network: this one may have no INT8."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / "int8.onnx", folder / "int8.json", *folder.glob("*.plan")):
        path.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    record = read_run(options.run).record
    asked = of_run(options.run, record.baseline, Unshown()).open
    settings, target = asked.settings, replace(asked.target, batch=1)
    others = settings.plans is not None or settings.bundle is not None or settings.roi != "none"
    if others or settings.mirror_axes or settings.networks > 1:
        raise SystemExit(f"{options.run}: only whole volumes through a window, by one network and not mirrored")
    clear(options.folder)
    with load_models([asked.checkpoint], asked.model_options, asked.widen_to) as (model,):
        fp32 = options.folder / "fp32.onnx"
        write_network(model, settings, fp32)
        if options.int8:
            try:
                details = write_int8(model, calibrated(target, record, settings), fp32, options.folder / "int8.onnx")
            except (EngineError, InputError) as error:
                details = {"left_out": str(error)}
                print(f"without INT8: {error}")
            (options.folder / "int8.json").write_text(json.dumps(details, indent=1))
        (options.folder / "case.json").write_text(case_json(settings, len(model.labels)))


if __name__ == "__main__":
    main()
