"""nnU-Net's own predictor, from its reader to its export, with this run's network put into it.

It mirrors tiles by itself, and goes through the networks of an ensemble by itself: all of a volume for each. The steps
are those of `nnUNetPredictor.predict_single_npy_array`, called one by one so that each can be timed. A network without
plans gets the least plans that say what this run says: intensities through the window, the volume as stored.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.data.volume import open_channels
from bench.machine.clock import Stopwatch
from bench.peers.session import PeerSession, Voting, windows
from bench.pipeline.finite import of_case
from bench.pipeline.nnunet.reader import Reader
from bench.pipeline.settings import CaseTiming, InferenceSettings
from engines.base import Target
from engines.placement import placed
from engines.pytorch.engine import TorchEngine
from engines.pytorch.session import synchronize, torch_settings
from models.ensemble import members_of
from models.model import Plans
from models.suppress import suppress_output

if TYPE_CHECKING:
    from models.model import Model

SUFFIX = ".nii.gz"
_CONFIGURATION = "3d_fullres"
_CROP = "crop to the box of what is not zero"


class NnUNet(TorchEngine):
    """Opens nnU-Net's way."""

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[PeerSession]:
        members, single = members_of(model.module), replace(target, batch=1)
        network = members[0]

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast("cuda", enabled=target.on_cuda):  # as the predictor does on CUDA, and only there
                segmentation, classification = network(x)
            return segmentation.float(), classification.float()

        with torch_settings(target), placed(network, target.device):
            first = replace(model, module=network)  # whose weights it replaces by those of one fold after the other
            pipeline = partial(self.pipeline, members, single)
            yield PeerSession(forward, first, single, pipeline, self.details(model, target))

    @property
    def pipeline(self) -> "type[NnUNetPipeline]":
        """From file to file."""
        return NnUNetPipeline

    def details(self, model: "Model", target: Target) -> dict[str, Any]:
        """What it does, by name, for the evidence."""
        prepared = "by the network's plans" if model.plans else f"{_CROP}, clip and scale by the window, no resampling"
        return {
            "nnunetv2": version("nnunetv2"),
            "way": "reader, DefaultPreprocessor, nnUNetPredictor (Gaussian), export with its writer",
            "preprocessing": prepared,
            "tiles": "nnU-Net's grid, evenly spread and at most (1 - overlap) x tile apart",
            "weights": "nnU-Net's Gaussian, without the least value that MONAI gives its own",
            "accumulation": "float16",
            "batch": 1,
            "stages": "write is the export: resampling back, argmax and the file; "
            + ("forward is all of the predictor" if target.on_cuda else "stitch is the predictor but the network"),
        }


class NnUNetPipeline:
    """From file to file by nnU-Net."""

    def __init__(self, members: Sequence[nn.Module], target: Target, settings: InferenceSettings) -> None:
        with suppress_output():
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            self._as_stored = settings.plans is None
            plans = settings.plans or _least_plans(settings)
            self._target = target
            self._members = len(members)
            self._network = Voting(members[0], settings)
            self._plans = PlansManager(dict(plans.plans))
            self._configuration = self._plans.get_configuration(plans.configuration)
            self._dataset = {**plans.dataset, "file_ending": SUFFIX}
            self._reader = Reader(self._plans)
            self._predictor = nnUNetPredictor(
                1 - settings.overlap, use_gaussian=True, use_mirroring=True, device=torch.device(target.device),
                allow_tqdm=False,
            )  # fmt: skip
            weights = [Voting(member, settings).state_dict() for member in members]
            if len(weights) > 1:  # which are loaded in turns into the tensors of the first
                weights[0] = {name: tensor.clone() for name, tensor in weights[0].items()}
            self._predictor.manual_initialization(
                self._network, self._plans, self._configuration, weights, self._dataset, "nnUNetTrainer",
                settings.mirror_axes or None,
            )  # fmt: skip

    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """Predict the case whose channels are in `image_paths`, write its mask to `mask_path`, and time both.

        Raises:
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
        from nnunetv2.inference.export_prediction import export_prediction_from_logits

        watch, plans, configuration = self._stopwatch(), self._plans, self._configuration
        niftis = open_channels(image_paths)  # not timed: nnU-Net does not look whether the header contradicts itself
        start = time.perf_counter_ns()
        with watch.stage("read"):
            data, properties = self._reader.read(image_paths, niftis)
        with watch.stage("preprocess"):
            if self._as_stored:
                configuration.configuration["spacing"] = [properties["spacing"][i] for i in plans.transpose_forward]
            case = next(
                PreprocessAdapterFromNpy([data], [None], [properties], [None], plans, self._dataset, configuration)
            )
        with windows(watch, self._network, self._target):
            logits = self._infer(case["data"])
        with watch.stage("stitch"), of_case(image_paths[0]):
            self._network.refuse_not_finite(logits, partial(self._infer_again, case["data"]))
            subtype = self._network.subtype()
        with watch.stage("write"):
            export_prediction_from_logits(
                logits,
                case["data_properties"],
                configuration,
                plans,
                self._dataset,
                str(mask_path).removesuffix(SUFFIX),
                num_threads_torch=self._target.threads,
            )
        case_ns = time.perf_counter_ns() - start
        tiles = self._network.tiles // self._members
        return CaseTiming(subtype=subtype, tiles=tiles, case_ns=case_ns, stages_ns=watch.stages_ns)

    def _infer(self, data: Tensor) -> Tensor | None:
        """Merged logits of a case; None where the predictor refuses its sums, which are infinite in float16."""
        try:
            logits: Tensor = self._predictor.predict_logits_from_preprocessed_data(data).cpu()
        except RuntimeError as error:
            if "Encountered inf" not in str(error):
                raise
            return None
        return logits

    def _infer_again(self, data: Tensor) -> None:
        self._predictor.perform_everything_on_device = False  # or it runs all tiles twice where it refuses the sums
        self._infer(data)

    def _stopwatch(self) -> Stopwatch:
        return Stopwatch(partial(synchronize, self._target.device))


def _least_plans(settings: InferenceSettings) -> Plans:
    """Plans that bring a volume to the network as `settings` does without any.

    nnU-Net's CT normalisation clips to two percentiles, takes the mean off and divides by the deviation: with the
    window's bounds in their places that is the window. Its readers give z, y, x, and the network takes x, y, z. The
    spacing is set to each case's own, so that nothing is resampled.
    """
    low, high = settings.window
    resample: dict[str, Any] = {}
    for what, is_seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
        resample[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        resample[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None,
        }  # fmt: skip
    configuration = resample | {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": list(settings.tile),
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"] * settings.channels,
        "use_mask_for_norm": [False] * settings.channels,
        "architecture": {},  # the network is given
    }
    intensities = {"mean": low, "std": high - low, "percentile_00_5": low, "percentile_99_5": high}
    plans = {
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "configurations": {_CONFIGURATION: configuration},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": dict.fromkeys(map(str, range(settings.channels)), intensities),
    }
    channels = dict.fromkeys(map(str, range(settings.channels)), "CT")
    dataset = {"channel_names": channels, "labels": _least_labels(settings), "file_ending": SUFFIX}
    return Plans(plans, dataset | {"regions_class_order": list(settings.labels)}, _CONFIGURATION)


def _least_labels(settings: InferenceSettings) -> dict[str, Any]:
    if settings.painting is None:
        return {"background": 0} | {f"class {label}": label for label in settings.labels[1:]}
    # What a region is made of matters in training only; a list of one label would be no region.
    return {"background": 0} | {f"region {at}": [label] * 2 for at, label in enumerate(settings.labels)}
