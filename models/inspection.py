"""What a checkpoint file holds, as plain values and as text."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import CheckpointError, sides
from models.load import build_fitting, imports_for, read_checkpoint
from models.model import Model, Plans, Transforms
from models.monai.build import trusts_bundle
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.reader.container import ONNX, TORCH_LEGACY, TORCH_ZIP
from models.task import intensity_unit
from models.task_file import task_values

_LINE = 110  # columns of text
_LONGEST = 80  # characters of a name or value in the text; the JSON has them whole
_MOST = 12  # values of a list in the text
_PLANNED = ("spacing", "patch_size", "normalization_schemes")
_OF_MODEL = (
    "architecture", "architecture_reason", "width", "weights_sha256", "tile", "window", "labels", "painting",
    "subtypes", "plans", "mirror_axes", "bundle", "task",
)  # fmt: skip


def inspect(path: Path, options: ModelOptions | None = None) -> dict[str, Any]:
    """Say what the checkpoint at `path` holds and how it was read, in values that JSON can carry.

    Sizes are in bytes, tiles in voxels, windows in HU, spacings in mm. A network that is not recognised has
    ``architecture`` None and the reason under ``architecture_reason``; then all that a network has is None too.
    Numbers that are not finite are None. ``code_run`` names the options by which code that is not ours was run.

    Raises:
        CheckpointError: the file cannot be read as a checkpoint.
    """
    options = options or ModelOptions()
    checkpoint = read_checkpoint(path, options)
    try:
        with imports_for(options):
            model, checkpoint = build_fitting(checkpoint, options)
            return _file_info(checkpoint, options) | _model_info(model)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{checkpoint.path}: ")
        return _file_info(checkpoint, options) | {"architecture_reason": reason}


def _file_info(checkpoint: Checkpoint, options: ModelOptions) -> dict[str, Any]:
    tensors = {id(tensor): tensor for tensor in checkpoint.state.values()}.values()  # some have several names
    return {
        "file": str(checkpoint.path),
        "file_bytes": checkpoint.path.stat().st_size,
        "container": checkpoint.container,
        "keys": list(checkpoint.keys),
        "wrappers_removed": list(checkpoint.wrappers),
        "other_weights": [".".join(place) for place in checkpoint.others],
        **dict.fromkeys(_OF_MODEL),
        "tensors": len(checkpoint.state),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "weights_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        "dtypes": list(checkpoint.dtypes),
        "nonfinite": list(checkpoint.nonfinite),
        "epoch": checkpoint.epoch,
        "metrics": {name: _finite(value) for name, value in checkpoint.metrics.items()},
        "metadata": {name: _finite(value) for name, value in checkpoint.metadata.items()},
        "ignored": list(checkpoint.ignored),
        "numpy": checkpoint.numpy,
        "remarks": [],
        "code_run": _code_run(checkpoint, options),
    }


def _model_info(model: Model) -> dict[str, Any]:
    return {
        "architecture": model.architecture,
        "architecture_reason": model.evidence or "what the file holds: the whole network",
        "width": model.width,
        "weights_sha256": model.sha256,
        "tile": list(model.tile),
        "window": list(model.window) if model.plans is None and model.bundle is None else None,
        "labels": list(model.labels),
        "painting": None if model.painting is None else list(model.painting),
        "subtypes": model.subtypes,
        "task": task_values(model.task) | {"sources": dict(model.task.sources)},
        "plans": None if model.plans is None else _plans_info(model.plans),
        "mirror_axes": None if model.mirror_axes is None else list(model.mirror_axes),
        "bundle": None if model.bundle is None else _bundle_info(model.bundle, model.overlap),
        "remarks": list(model.remarks),
    }


def _plans_info(plans: Plans) -> dict[str, Any]:
    planned = plans.plans["configurations"][plans.configuration]
    return {"configuration": plans.configuration} | {key: planned[key] for key in _PLANNED if key in planned}


def _bundle_info(bundle: Transforms, overlap: float) -> dict[str, Any]:
    inferer = {"overlap": overlap, "mode": bundle.mode, "padding_mode": bundle.padding_mode, "cval": bundle.cval}
    return {
        "preprocessing": [{name: dict(arguments)} for name, arguments in bundle.preprocessing],
        "postprocessing": [{name: dict(arguments)} for name, arguments in bundle.postprocessing],
        "inferer": inferer | ({"sigma_scale": bundle.sigma_scale} if bundle.mode == "gaussian" else {}),
    }


def _code_run(checkpoint: Checkpoint, options: ModelOptions) -> list[str]:
    if options.arch is not None:
        return [f"--arch {options.arch}"]
    program = checkpoint.program is not None and checkpoint.container != ONNX
    ran = program or trusts_bundle(options, checkpoint.source)
    return [f"--trust {options.trust}"] if ran else []


def _finite(value: float | int | str) -> float | int | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe(info: Mapping[str, Any]) -> str:
    """Render what `inspect` returned as aligned lines of text."""
    rows = [*_file_rows(info), *_network_rows(info), *_weights_rows(info)]
    column = max(len(name) for name, _ in rows) + 2
    return "\n".join(_wrapped_row(name, text, column) for name, text in rows)


def _file_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    others = [("other weights", f"{_listed(info['other_weights'], '')}: not used")] if info["other_weights"] else []
    bare = "none: a bare state dict" if info["container"] in (TORCH_ZIP, TORCH_LEGACY) else "none"
    return [
        ("file", f"{info['file']} ({_megabytes(info['file_bytes'])})"),
        ("container", info["container"]),
        ("keys", _listed(info["keys"], bare)),
        ("wrappers removed", _listed(info["wrappers_removed"], "none")),
        *others,
        ("code run", _listed(info["code_run"], "none")),
    ]


def _network_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    if info["architecture"] is None:
        return [("architecture", "not recognised"), ("reason", info["architecture_reason"])]
    low, high = info["window"] or (None, None)
    planned = [f"{name.replace('_', ' ')} {value}" for name, value in (info["plans"] or {}).items()]
    if info["bundle"]:
        preparation = [(name, _steps(info["bundle"][name])) for name in ("preprocessing", "postprocessing")] + [
            ("inferer", ", ".join(f"{name} {value}" for name, value in info["bundle"]["inferer"].items()))
        ]
    elif planned:
        preparation = [("nnU-Net plans", ", ".join(planned)), ("mirroring", _mirroring(info["mirror_axes"]))]
    else:
        unit = intensity_unit(info["task"]["channels"])
        preparation = [("intensities", f"clipped to {low:g} to {high:g}{unit}, mapped to 0 to 1")]
    return [
        ("architecture", f"{info['architecture']}, width {info['width']}"),
        ("recognised by", info["architecture_reason"]),
        *_task_rows(info),
        ("subtypes", str(info["subtypes"] or "none: its segmentation alone is used")),
        ("tile", f"{sides(info['tile'])} voxels"),
        *preparation,
        *(("remark", remark) for remark in info["remarks"]),
    ]


def _mirroring(axes: Sequence[int] | None) -> str:
    """Of nnU-Net's predictor."""
    if axes is None:
        return "not recorded"
    return f"allowed along {', '.join('xyz'[axis] for axis in axes)}" if axes else "not allowed"


def _steps(steps: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """MONAI's transforms with their arguments."""
    called = [(name, arguments) for each in steps for name, arguments in each.items()]
    return ", ".join(
        f"{name}({', '.join(f'{key} {value}' for key, value in arguments.items())})" for name, arguments in called
    ) or "none"  # fmt: skip


def _task_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each part of the task with the source that it came from."""
    task, sources = info["task"], info["task"]["sources"]
    names = {value: name for name, value in task["labels"].items()}
    if info["painting"] is None:
        outputs = [f"{names.get(label, label)} in channel {channel}" for channel, label in enumerate(info["labels"])]
    else:
        regions = [region["structure"] for region in task["regions"]]
        outputs = [f"{regions[channel]} of channel {channel}, painted {info['labels'][channel]}"
                   for channel in info["painting"]]  # fmt: skip
    labels = [f"{value} {name}" for name, value in task["labels"].items()]
    labels += [f"{task['ignore']} ignored"] if "ignore" in task else []
    structures = [
        f"{name} ({_listed([str(label) for label in of['labels']], '')}{_tolerance(of)})"
        for name, of in task["structures"].items()
    ]
    rows = {
        "channels": ("channels", task["channels"]),
        "labels in masks": ("labels", labels),
        "regions" if task.get("regions") else "classes": ("", outputs),
        "structures": ("structures", structures),
    }
    return [
        ("task", task["name"]),
        *((name, _listed(values, "none") + (f" [{sources[part]}]" if sources.get(part) else ""))
          for name, (part, values) in rows.items()),
    ]  # fmt: skip


def _tolerance(structure: Mapping[str, Any]) -> str:
    mm = structure.get("nsd_tolerance_mm")
    return "" if mm is None else f"; NSD at {mm:g} mm"


def _weights_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    metrics = [f"{_shorten(name)} {_format_value(value)}" for name, value in info["metrics"].items()]
    others = [f"{_shorten(name)} {_format_value(value)}" for name, value in info["metadata"].items()]
    return [
        ("parameters", f"{info['parameters']:,} in {info['tensors']} tensors"),
        ("weights", f"{_megabytes(info['weights_bytes'])}, {_listed(info['dtypes'], 'no dtype')}"),
        ("weights sha256", info["weights_sha256"] or "not computed"),
        ("NaN or infinity", _listed(info["nonfinite"], "none")),
        ("epoch", "not recorded" if info["epoch"] is None else str(info["epoch"])),
        ("recorded metrics", _listed(metrics, "none")),
        ("other values", _listed(others, "none")),
        ("ignored", _listed(info["ignored"], "nothing")),
        ("numbers written by", f"numpy {info['numpy']}" if info["numpy"] else "plain Python"),
    ]


def _wrapped_row(name: str, text: str, column: int) -> str:
    """One entry, wrapped under itself; free of control characters, which names that a file chose may hold."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    lines = textwrap.wrap(printable, _LINE - column, break_long_words=False, break_on_hyphens=False)
    return f"{name:<{column}}" + f"\n{'':<{column}}".join(lines)


def _listed(values: list[str], empty: str) -> str:
    more = f" and {len(values) - _MOST:,} more" if len(values) > _MOST else ""
    return ", ".join(_shorten(value) for value in values[:_MOST]) + more if values else empty


def _shorten(value: str) -> str:
    return value if len(value) <= 2 * _LONGEST else f"{value[:_LONGEST]}..."


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _format_value(value: object) -> str:
    if value is None:
        return "not finite"
    return f"{value:.4g}" if isinstance(value, float) else _shorten(str(value))
