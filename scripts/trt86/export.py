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

from bench.data.cases import find_cases
from bench.data.volume import MaskValues
from bench.pipeline.merge import foreground_mass
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import gaussian_weights
from bench.plan.calibration import from_training_cases
from bench.plan.opening import of_run
from bench.progress import Unshown
from engines.base import EngineError, Target
from engines.evidence.mac_counter import layers_of
from engines.onnx.export import calibration_batches
from engines.placement import placed
from engines.pytorch.session import torch_settings
from engines.quantization.fake_quantization import PERCENTILE, calibrate
from engines.quantization.sensitivity import select
from engines.tensorrt.qdq import write
from models.load import load_models
from models.model import Model
from models.suppress import suppress_output
from reports.records.record import RunRecord
from reports.records.store import read_run

OPSET = 17
INPUT, OUTPUTS = "image", ["segmentation", "classification", "foreground"]


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
                          output_names=OUTPUTS)  # fmt: skip


def write_int8(model: Model, target: Target, fp32: Path, path: Path) -> dict[str, Any]:
    """The file `fp32` with Q/DQ nodes, and which layers have them."""
    batches = [batch.to(target.device) for batch in calibration_batches(model, target)]
    layers = layers_of(model.module, batches[0].shape)
    with torch_settings(target), placed(model.module, target.device) as network:
        scales = calibrate(network, batches, PERCENTILE)
        chosen = select(network, scales, batches, layers, regions=model.painting is not None)
    write(fp32, {f"network.{name}": scales[name] for name in chosen.layers}, path)
    return chosen.details()


def calibrated(target: Target, record: RunRecord, settings: InferenceSettings) -> Target:
    """With tiles of the training cases beside the run's own."""
    root = Path(record.data.root)
    evaluated = find_cases(root, record.data.split)[1]
    values = MaskValues.of(record.task, record.data.mask_values)
    return replace(target, calibration=from_training_cases(root, evaluated, settings, values)[0])


def case_json(settings: InferenceSettings, outputs: int) -> str:
    """What `predict.py` must know of a case."""
    kept = ("tile", "overlap", "window", "labels", "painting", "channels", "subtypes")
    return json.dumps({name: getattr(settings, name) for name in kept} | {"outputs": outputs}, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    record = read_run(options.run).record
    asked = of_run(options.run, record.baseline, Unshown()).open
    settings, target = asked.settings, replace(asked.target, batch=1)
    if settings.plans is not None or settings.bundle is not None or settings.roi != "none" or settings.mirror_axes:
        raise SystemExit(f"{options.run}: only whole volumes through a window of intensities, not mirrored")
    options.folder.mkdir(parents=True, exist_ok=True)
    with load_models([asked.checkpoint], asked.model_options, asked.widen_to) as (model,):
        fp32 = options.folder / "fp32.onnx"
        write_network(model, settings, fp32)
        if options.int8:
            try:
                details = write_int8(model, calibrated(target, record, settings), fp32, options.folder / "int8.onnx")
            except EngineError as error:
                details = {"left_out": str(error)}
                print(f"without INT8: {error}")
            (options.folder / "int8.json").write_text(json.dumps(details, indent=1))
        (options.folder / "case.json").write_text(case_json(settings, len(model.labels)))


if __name__ == "__main__":
    main()
