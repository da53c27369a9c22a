"""What a checkpoint file holds, as plain values and as text."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.architecture import build, surroundings
from models.checkpoint import read_checkpoint
from models.errors import CheckpointError
from models.given import Given


def inspect(path: Path, given: Given | None = None) -> dict[str, Any]:
    """Tell what the checkpoint at `path` holds and how it was read, in values that JSON can carry.

    Sizes are in bytes. A network that is not recognised has ``architecture`` None and the reason under
    ``architecture_reason``; then ``width`` and ``weights_sha256`` are None too. Metrics that are not
    finite are None.

    Raises:
        CheckpointError: the file cannot be read as a checkpoint.
    """
    given = given or Given()
    checkpoint = read_checkpoint(path, given.trusts(path))
    tensors = {id(tensor): tensor for tensor in checkpoint.state.values()}.values()  # one may have several names
    info: dict[str, Any] = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "container": checkpoint.container,
        "keys": list(checkpoint.keys),
        "wrappers_removed": list(checkpoint.wrappers),
        "architecture": None,
        "architecture_reason": None,
        "width": None,
        "tensors": len(checkpoint.state),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "weights_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        "weights_sha256": None,
        "dtypes": list(checkpoint.dtypes),
        "nonfinite": list(checkpoint.nonfinite),
        "epoch": checkpoint.epoch,
        "metrics": {name: value if math.isfinite(value) else None for name, value in checkpoint.metrics.items()},
        "metadata": dict(checkpoint.metadata),
        "ignored": list(checkpoint.ignored),
        "numpy": checkpoint.numpy,
    }
    try:
        with surroundings(given):
            model = build(checkpoint, given=given)
    except CheckpointError as error:
        return info | {"architecture_reason": str(error).removeprefix(f"{path}: ")}
    return info | {
        "architecture": model.architecture,
        "architecture_reason": "names and shapes of all its tensors",
        "width": model.width,
        "weights_sha256": model.sha256,
    }


def describe(info: Mapping[str, Any]) -> str:
    """Render what `inspect` returned as aligned lines of text."""
    known = info["architecture"]
    rows = {
        "file": f"{info['file']} ({_megabytes(info['file_bytes'])})",
        "container": info["container"],
        "keys": _listed(info["keys"], "none: a bare state dict"),
        "wrappers removed": _listed(info["wrappers_removed"], "none"),
        "architecture": f"{known}, width {info['width']}" if known else "not recognised",
        "recognised by" if known else "reason": info["architecture_reason"],
        "parameters": f"{info['parameters']:,} in {info['tensors']} tensors",
        "weights": f"{_megabytes(info['weights_bytes'])}, {_listed(info['dtypes'], 'no dtype')}",
        "weights sha256": info["weights_sha256"] or "not computed",
        "NaN or infinity": _listed(info["nonfinite"], "none"),
        "epoch": "not recorded" if info["epoch"] is None else str(info["epoch"]),
        "recorded metrics": _listed([f"{name} {_figure(value)}" for name, value in info["metrics"].items()], "none"),
        "other values": _listed([f"{name} {value}" for name, value in info["metadata"].items()], "none"),
        "ignored": _listed(info["ignored"], "nothing"),
        "numbers written by": f"numpy {info['numpy']}" if info["numpy"] else "plain Python",
    }
    column = max(map(len, rows)) + 2
    return "\n".join(f"{name:<{column}}{_printable(text)}" for name, text in rows.items())


def _listed(values: list[str], empty: str, limit: int = 12) -> str:
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more if values else empty


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _printable(text: str) -> str:
    """Keep a terminal safe from control characters in names that a file chose."""
    return "".join(c if c.isprintable() else " " for c in text)
