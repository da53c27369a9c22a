"""What the record says of a run before anything is measured: controlled settings, checkpoint and data."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from bench.data.cases import fingerprint, sha256_of
from bench.data.layouts import CaseFiles
from bench.data.volume import MaskValues
from bench.peers import PEERS
from bench.pipeline.nnunet.preparation import covered
from bench.pipeline.tiles import SIGMA_SCALE
from bench.plan.request import Request
from bench.plan.variants.augmentation import OFF
from bench.plan.variants.variants import row_of
from bench.worker.allocator import KEEP
from engines.base import TORCH
from engines.evidence.mac_counter import layers_in
from engines.layers import Layer
from models.errors import sides
from models.model import Model
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.task import intensity_unit
from models.task_file import read_task
from reports.records.record import CheckpointRecord, DataRecord, OptionsRecord, Settings, VariantSettings

_PRECISIONS = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def controlled_settings(settings: Settings, model: Model, baseline: str, networks: int = 1) -> dict[str, str]:
    """What is held equal between the variants, so that only the engine differs; `networks` of an ensemble."""
    plans = model.plans
    commands = {f"but command {name}": str(own.command) for name, own in settings.commands.items()}
    if len(commands) == len(settings.variants):
        return {"own commands alone": "equal are the cases, the machine and the environment", **commands}
    return {
        "preparation": _preparation(model, settings),
        "intensity window": _window(model),
        "protocol": settings.protocol,
        "tile": sides(settings.tile),
        "overlap": f"{settings.overlap:g}",
        "tile weights": _weights(model),
        "batch": _batches(settings),
        "ROI": settings.roi,
        "test-time augmentation": _augmentation(settings.tta),
        **({"ensemble": f"{networks} networks, {_averaged(model)}"} if networks > 1 else {}),
        "accumulation": "float32" if plans is None else "float16, as nnU-Net's predictor",
        "threads": f"{settings.threads}, {_waiting()}",
        "freed memory": "kept by the process" if settings.allocator == KEEP else "as the system's allocator has it",
        "memory format of inputs": "contiguous",
        **_of_baseline(settings, baseline),
        **{f"but recipe {name}": _of_recipe(recipe, settings) for name, recipe in settings.recipes.items()},
        **commands,
    }


def _averaged(model: Model) -> str:
    return "their logits of a tile averaged" if model.plans is None else "merged apart, then averaged, as by nnU-Net"


def _augmentation(tta: str) -> str:
    if tta == OFF:
        return "off"
    axes = tta.partition(":")[2].replace(",", ", ")
    return f"tiles mirrored along {axes} in every combination, their logits averaged"


def _of_recipe(recipe: VariantSettings, settings: Settings) -> str:
    """A recipe that leaves the run's test-time augmentation out says so."""
    without = ", without test-time augmentation" if recipe.tta == OFF != settings.tta else ""
    return f"{recipe}{without}"


def _of_baseline(settings: Settings, name: str) -> dict[str, str]:
    """How the baseline multiplies; and what else of it is its own, where it is a reference pipeline."""
    own, on_cuda = settings.variants[name], settings.device.startswith("cuda")
    if own.command is not None:
        return {f"{what} in the baseline": "the command's own" for what in ("precision", "TF32", "cudnn.benchmark")}
    row = row_of(own.backend, settings.device)
    half = "fp16" if on_cuda else "bf16"
    by_torch = row.runtime.providers == TORCH.providers  # whose flags `engines.pytorch.session` sets
    return {
        "precision of the baseline": _PRECISIONS[half if row.precision == "half" else row.precision],
        "TF32 in the baseline": "on" if row.precision == "tf32" else "off",
        "cudnn.benchmark in the baseline": "on" if on_cuda and by_torch else "not applicable",
    } | ({"but the baseline": "a reference pipeline, with what its evidence says"} if own.backend in PEERS else {})


def _waiting() -> str:
    """How idle threads of OpenMP's pools wait, which makes PyTorch faster or slower."""
    policy = os.environ.get("OMP_WAIT_POLICY")
    return f"OMP_WAIT_POLICY={policy}" if policy else "waiting as OpenMP has it"


def _preparation(model: Model, settings: Settings) -> str:
    if model.bundle is not None:
        return f"the bundle's: {', '.join(name for name, _ in model.bundle.preprocessing)}"
    if model.plans is None:
        return "as stored"
    plans = f"by nnU-Net's plans ({model.plans.configuration})"
    if settings.preprocessing == "nnunet":
        return f"{plans}, with its own functions"
    if not covered(model.plans):
        return f"{plans}, with its own functions, since they resample logits by splines of a higher order than 1"
    return f"{plans}, with functions equal to its own"


def _weights(model: Model) -> str:
    if model.bundle is not None and model.bundle.mode == "constant":
        return "equal, as the bundle's inferer"
    sigma = SIGMA_SCALE if model.bundle is None else model.bundle.sigma_scale
    return f"Gaussian, sigma {sigma:g} of the tile" + ("" if model.plans is None else ", as nnU-Net's predictor")


def _window(model: Model) -> str:
    if model.bundle is not None:
        return "by the bundle's transforms"
    if model.plans is not None:
        return "by the plans"
    low, high = model.window
    return f"{low:g} to {high:g}{intensity_unit(model.task.channels)} to 0 and 1"


def _batches(settings: Settings) -> str:
    others = sorted({own.batch for own in settings.variants.values() if not own.recipe} - {settings.batch})
    named = f", but {' and '.join(map(str, others))} where a backend's name says so" if others else ""
    return f"{settings.batch}{named}"


def model_options_of(checkpoint: CheckpointRecord) -> ModelOptions:
    """What the user said about the network when the run began."""
    options = checkpoint.options
    trust = None if options.trust is None else Path(options.trust)
    task = None if options.task is None else read_task(Path(options.task))
    return ModelOptions(options.arch, options.tile, options.window, trust, task)


def layers_of_a_pass(model: Model) -> tuple[Layer, ...]:
    """What multiplies in a pass over one tile, or over the only batch that a program takes."""
    return tuple(layers_in(model, _batch(model), model.tile))


def describe_checkpoint(
    model: Model,
    checkpoint: Checkpoint,
    paths: Sequence[Path],
    request: Request,
    layers: tuple[Layer, ...] | None,
    further: tuple[str, ...] = (),
) -> CheckpointRecord:
    """What the record says of the network, whose work in a pass is `layers`; None where it is never run.

    Of an ensemble it is the first at `paths`; `further` are the hashes of the others' weights.
    """
    uncounted: tuple[str, ...] = ("it was read for its task: own commands ran alone",) if layers is None else ()
    if layers == ():
        uncounted = ("no convolution or matrix product was seen in a pass of it, so its work is unknown",)
    unknown = [name for name, value in checkpoint.metrics.items() if not math.isfinite(value)]
    return CheckpointRecord(
        path=str(paths[0]),
        sha256=sha256_of(checkpoint.path),
        weights_sha256=model.sha256,
        members=further,
        further_paths=tuple(map(str, paths[1:])),
        demo=request.checkpoint is None,
        widened_to=request.demo_width,
        options=options_record(request.model_options, request.task),
        architecture=model.architecture,
        width=model.width,
        parameters=model.parameters,
        labels=model.labels,
        subtypes=model.subtypes,
        code=model.code,
        remarks=(
            *model.remarks,
            *uncounted,
            *(f"its training metric {name} is not a finite number" for name in unknown),
        ),
        **work_of_a_tile((layers or ()) * len(paths), _batch(model)),
        container=checkpoint.container,
        wrappers=tuple(checkpoint.wrappers),
        training_metrics={name: float(value) for name, value in checkpoint.metrics.items() if math.isfinite(value)},
    )


def _batch(model: Model) -> int:
    return (model.program and model.program.batch) or 1


def work_of_a_tile(layers: tuple[Layer, ...], batch: int) -> dict[str, int]:
    """Multiply-accumulates, and elements of the layers' inputs and outputs; and those of all weights.

    `layers` are those of a pass over `batch` tiles; without any nothing is known.
    """
    if not layers:
        return {}
    return {
        "macs_per_tile": sum(layer.macs for layer in layers) // batch,
        "activations_per_tile": sum(layer.sizes[0] + layer.sizes[2] for layer in layers) // batch,
        "layer_weights": sum(layer.sizes[1] for layer in layers),
    }


def options_record(options: ModelOptions, task: Path | None) -> OptionsRecord:
    """With paths that do not depend on where `bench` is called."""
    file, colon, factory = (options.arch or "").rpartition(":")
    return OptionsRecord(
        arch=options.arch and f"{Path(file).absolute()}{colon}{factory}",
        tile=options.tile,
        window=options.window,
        trust=None if options.trust is None else str(options.trust.absolute()),
        task=None if task is None else str(task.absolute()),
    )


def describe_data(
    root: Path,
    layout: str,
    request: Request,
    cases: list[CaseFiles],
    calibration_cases: list[str],
    values: MaskValues,
    remarks: tuple[str, ...],
) -> DataRecord:
    return DataRecord(
        root=str(root),
        layout=layout,
        split=request.split,
        sha256=fingerprint(cases),
        demo=request.data is None,
        calibration_cases=tuple(calibration_cases),
        mask_values=values.pairs,
        remarks=remarks,
    )
