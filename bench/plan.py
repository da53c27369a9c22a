"""What a run will do: options and files checked, before anything is written or any backend is built."""

import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engines
from bench import calibration, demo, host
from bench.errors import InputError
from bench.pipeline.cases import Found, check_cases, find_cases, fingerprint, sha256_of
from bench.pipeline.pipeline import Recipe
from bench.progress import Progress
from bench.worker import Open
from engines.base import Calibration, Target
from models.architecture import load_model
from models.checkpoint import Checkpoint
from models.model import Model
from reports.record import RunRecord, Settings


@dataclass(frozen=True)
class Request:
    """What the user asked for; None where an option was left out and the default depends on something else."""

    checkpoint: Path | None = None
    data: Path | None = None
    demo_width: int | None = None
    split: str = "validation"
    backends: str = "all"
    device: str = "auto"
    protocol: str = "sliding-window"
    overlap: float = 0.5
    roi: str = "none"
    batch: int = 1
    rounds: int | None = None
    budget_s: float = 600.0
    max_cases: int | None = None
    threads: int | None = None
    seed: int = 0
    min_reduction_pct: float = 10.0
    max_dsc_drop: float = 0.005
    max_f1_drop: float = 0.02
    required: str = ""
    timeout_s: float = 1800.0
    command: str = field(default="bench run", compare=False)


@dataclass(frozen=True)
class Plan:
    """A run that can start: its record and one request for a worker for each backend, the baseline first."""

    record: RunRecord
    opens: tuple[Open, ...]


def cache_folder() -> Path:
    """Where built engines and the demo's volumes are kept between runs: $VOXBENCH_CACHE or the user's cache folder."""
    named = os.environ.get("VOXBENCH_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "voxbench"


def backend_names(text: str) -> tuple[str, ...]:
    """Expand ``all`` or a comma-separated list; a name that is listed again becomes ``NAME#2``, a backend of its own.

    The baseline always comes first, whether it was named or not.

    Raises:
        InputError: a name that is no backend.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        names = list(engines.BACKENDS)
    unknown = [name for name in names if name not in engines.BACKENDS]
    if unknown or not names:
        what = f"unknown backend {unknown[0]!r}" if unknown else "no backend named"
        raise InputError(f"--backends: {what}; choose from all, {', '.join(engines.BACKENDS)}")
    if engines.BASELINE not in names:
        names.insert(0, engines.BASELINE)
    names.sort(key=lambda name: name != engines.BASELINE)
    seen: Counter[str] = Counter()
    arms = []
    for name in names:
        seen[name] += 1
        arms.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(arms)


def make_plan(request: Request, run_id: str, created: str, progress: Progress) -> Plan:
    """Check everything a run needs.

    Raises:
        InputError, models.checkpoint.CheckpointError: something cannot be used; nothing was written.
    """
    backends = backend_names(request.backends)
    required = _required(request, backends)
    _refuse_conflict(backends)
    device = resolve_device(request.device)
    if request.demo_width is not None and request.checkpoint is not None:
        raise InputError("--demo-width: widens the bundled demo checkpoint only; leave it or --checkpoint out")
    path = (request.checkpoint or demo.CHECKPOINT).absolute()
    model, checkpoint = load_model(path, request.demo_width)
    settings = _settings(request, backends, required, device, model)
    root = (request.data or demo_data(progress)).absolute()
    layout, found = find_cases(root, request.split)
    found = evenly(found, request.max_cases)
    progress.start("checking cases", len(found))
    cases = check_cases(found, progress.advance)
    _check_truth(found)
    recipe = recipe_of(settings, model)
    calibrated = None
    if any(_is_int8(name) for name in backends):
        calibrated = calibration.from_training_cases(root, found, recipe)
    record = RunRecord(
        id=run_id,
        created=created,
        command=request.command,
        settings=settings,
        checkpoint=_describe_checkpoint(model, checkpoint, path, request),
        data=_describe_data(root, layout, request, found, calibrated[1] if calibrated else []),
        cases=tuple(cases),
        host=host.describe(device),
        versions=host.versions(),
        declaration=declaration(settings),
        baseline=engines.BASELINE,
    )
    return Plan(record, _opens(record, recipe, calibrated[0] if calibrated else None))


def resume_plan(record: RunRecord, progress: Progress) -> Plan:
    """The plan of a run that was begun earlier, from its record.

    Raises:
        InputError: checkpoint or data are no longer those the run began with.
    """
    path = Path(record.checkpoint["path"])
    model, _ = load_model(path, record.checkpoint["widened_to"])
    if model.sha256 != record.checkpoint["weights_sha256"]:
        raise InputError(f"{path}: the weights are not those this run began with; start a new run")
    root, settings = Path(record.data["root"]), record.settings
    _, everything = find_cases(root, record.data["split"])
    names = {case.name for case in record.cases}
    found = [case for case in everything if case.name in names]
    progress.start("checking cases", 1)
    if fingerprint(found) != record.data["sha256"]:
        raise InputError(f"{root}: the cases are not those this run began with; start a new run")
    recipe = recipe_of(settings, model)
    calibrated = None
    if any(_is_int8(name) for name in settings.backends):
        calibrated = calibration.from_training_cases(root, found, recipe)
    return Plan(record, _opens(record, recipe, calibrated[0] if calibrated else None))


def recipe_of(settings: Settings, model: Model) -> Recipe:
    """How these settings bring a volume to this model."""
    return Recipe(settings.protocol, settings.tile, settings.overlap, settings.batch, settings.roi, model.window)


def demo_data(progress: Progress) -> Path:
    """The demo's made-up volumes, written on first use."""
    folder = cache_folder() / f"demo-{demo.VERSION}"
    if not folder.is_dir():
        progress.start(f"writing the demo's volumes to {folder}", 1)
        folder.parent.mkdir(parents=True, exist_ok=True)
        demo.write_demo(folder)
    return folder


def evenly(found: list[Found], most: int | None) -> list[Found]:
    """At most `most` cases, spread over the sorted list so that every class stays in."""
    if most is None or most >= len(found):
        return found
    return [found[i * len(found) // most] for i in range(most)]


def declaration(settings: Settings) -> dict[str, str]:
    """What is held equal between the backends, so that only the engine differs."""
    return {
        "protocol": settings.protocol,
        "tile": " x ".join(map(str, settings.tile)),
        "overlap": f"{settings.overlap:g}",
        "tile weights": "Gaussian, sigma 0.125 of the tile",
        "batch": str(settings.batch),
        "ROI": settings.roi,
        "test-time augmentation": "off",
        "accumulation": "float32",
        "threads": f"{settings.threads}, parked when idle",
        "memory format of inputs": "contiguous",
        "TF32 in the baseline": "off",
        "cudnn.benchmark in the baseline": "on" if settings.device.startswith("cuda") else "not applicable",
    }


def _settings(
    request: Request, backends: tuple[str, ...], required: tuple[str, ...], device: str, model: Model
) -> Settings:
    if request.protocol == "center-patch" and request.roi != "none":
        raise InputError("--roi: the centre patch is a crop already; use --roi none with --protocol center-patch")
    return Settings(
        backends=backends,
        device=device,
        protocol=request.protocol,
        overlap=request.overlap,
        roi=request.roi,
        tile=model.tile,
        batch=request.batch,
        rounds=request.rounds,
        budget_s=request.budget_s,
        threads=request.threads or host.physical_threads(),
        seed=request.seed,
        min_reduction_pct=request.min_reduction_pct,
        max_dsc_drop=request.max_dsc_drop,
        max_f1_drop=request.max_f1_drop,
        required=required,
        timeout_s=request.timeout_s,
    )


def _opens(record: RunRecord, recipe: Recipe, tiles: Calibration | None) -> tuple[Open, ...]:
    settings = record.settings
    target = Target(settings.device, settings.tile, settings.batch, settings.threads, cache_folder(), tiles)
    path, widen_to = Path(record.checkpoint["path"]), record.checkpoint["widened_to"]
    return tuple(
        Open(name, engines.BACKENDS[table_name(name)], path, widen_to, target, recipe) for name in settings.backends
    )


def table_name(arm: str) -> str:
    """Name in the table of backends: ``torch-fp32`` for ``torch-fp32#2``."""
    return arm.partition("#")[0]


def _is_int8(arm: str) -> bool:
    return engines.BACKENDS[table_name(arm)].precision == "int8"


def _required(request: Request, backends: tuple[str, ...]) -> tuple[str, ...]:
    required = tuple(name.strip() for name in request.required.split(",") if name.strip())
    for name in required:
        if name not in backends:
            raise InputError(f"--require: {name!r} is not among the backends of this run; add it to --backends")
    return required


def _refuse_conflict(backends: tuple[str, ...]) -> None:
    if any(engines.BACKENDS[table_name(name)].module == "onnxruntime" for name in backends):
        from engines.onnxruntime import onnxruntime_conflict

        conflict = onnxruntime_conflict()
        if conflict is not None:
            raise InputError(conflict)


def resolve_device(wanted: str) -> str:
    """Turn `auto` into a device that is there.

    Raises:
        InputError: the wanted one is not.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if there else "cpu"
    if not there:
        raise InputError(f"--device {wanted}: PyTorch {torch.__version__} finds no CUDA device; use --device cpu")
    return wanted


def _check_truth(found: list[Found]) -> None:
    some, all_ = any(case.mask for case in found), all(case.mask for case in found)
    if some and not all_:
        missing = next(case for case in found if case.mask is None)
        raise InputError(f"{missing.image}: no mask beside it, but other cases have one; add it or take the case out")


def _describe_checkpoint(model: Model, checkpoint: Checkpoint, path: Path, request: Request) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": sha256_of(path),
        "weights_sha256": model.sha256,
        "demo": request.checkpoint is None,
        "widened_to": request.demo_width,
        "architecture": model.architecture,
        "width": model.width,
        "parameters": model.parameters,
        "container": checkpoint.container,
        "wrappers": list(checkpoint.wrappers),
        "recorded": {name: value for name, value in checkpoint.metrics.items() if math.isfinite(value)},
    }


def _describe_data(
    root: Path, layout: str, request: Request, found: list[Found], calibration_cases: list[str]
) -> dict[str, Any]:
    return {
        "root": str(root),
        "layout": layout,
        "split": request.split,
        "sha256": fingerprint(found),
        "demo": request.data is None,
        "calibration_cases": calibration_cases,
    }
