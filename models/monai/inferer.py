"""The sliding window of a MONAI bundle, as plain values."""

from dataclasses import dataclass
from typing import Any

from models.errors import CheckpointError, refusal
from models.monai.config import Component, Config
from models.options import ModelOptions

_PLACES = ("inferer", "validate::inferer", "train::inferer")
_WINDOWS = ("SlidingWindowInferer", "SlidingWindowInfererAdapt")
_LARGEST_TILE = 2**24  # voxels; more than 256 x 256 x 256 is a mistake or malice
_PADDING = ("constant", "reflect", "replicate", "circular")
# Where it computes, and what it shows; `with_coord` would hand the network more than the tile.
_IGNORED = {
    "roi_size", "sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh",
    "buffer_steps", "buffer_dim",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Window:
    """A sliding window.

    Attributes:
        tile: sides in voxels.
        overlap, mode, sigma_scale, padding_mode, cval: as of `models.model.Transforms`.
        remarks: what is to be said of it.
    """

    tile: tuple[int, int, int]
    overlap: float = 0.25
    mode: str = "constant"
    sigma_scale: float = 0.125
    padding_mode: str = "constant"
    cval: float = 0.0
    remarks: tuple[str, ...] = ()


def window_of(config: Config, options: ModelOptions) -> Window:
    """The bundle's sliding window, with the user's tile where one is named.

    Raises:
        CheckpointError: it is none that can be used.
    """
    key = next((key for key in _PLACES if config.has(key)), _PLACES[0])
    inferer = config.component(key) if config.has(key) else None
    if inferer is None or inferer.name not in _WINDOWS or "roi_size" not in inferer.arguments:
        name = inferer.target[:80] if inferer else "none"
        if options.tile is None:
            raise _refused(config, f"its {key} ({name}) names no roi_size")
        said = f"its {key} ({name}) is no sliding window: tiles overlap by half and have Gaussian weights"
        return Window(tile=options.tile, overlap=0.5, mode="gaussian", remarks=(said,))
    if f"{inferer.target.rpartition('.')[0] or 'monai'}.".partition(".")[0] != "monai":
        raise config.refused(f"its {inferer.key}::_target_ is {inferer.target[:80]}, not one of MONAI's")
    tile = options.tile or _tile(config, inferer)
    return Window(tile=tile, **_settings(config, inferer))


def _tile(config: Config, inferer: Component) -> tuple[int, int, int]:
    sides = config.resolved(f"{inferer.key}::roi_size", inferer.arguments["roi_size"])
    sides = [sides] * 3 if _is_side(sides) else sides
    if not (isinstance(sides, list) and len(sides) == 3 and all(map(_is_side, sides))):
        raise _refused(config, f"its {inferer.key}::roi_size is {str(sides)[:80]}, not three sides in voxels")
    x, y, z = sides
    if x * y * z > _LARGEST_TILE:
        raise _refused(config, f"its {inferer.key}::roi_size is {x} x {y} x {z}, more than {_LARGEST_TILE} voxels")
    return x, y, z


def _settings(config: Config, inferer: Component) -> dict[str, Any]:
    """What the inferer says beside its tile, checked; what it does not say is MONAI's default."""
    settings: dict[str, Any] = {}
    for name, written in inferer.arguments.items():
        if name in _IGNORED:
            continue
        value = config.resolved(f"{inferer.key}::{name}", written)
        if name in ("overlap", "sigma_scale") and isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        fits = {
            "overlap": _is_between(value, 0, 0.99),
            "sigma_scale": _is_between(value, 1e-3, 10),
            "mode": value in ("constant", "gaussian"),
            "padding_mode": value in _PADDING,
            "cval": _is_between(value, -1e5, 1e5),
            "with_coord": value is False,
        }
        if not fits.get(name, False):
            problem = f"its {inferer.key}::{name} is {str(value)[:60]!r}, which is not done here"
            raise refusal(config.file, problem, "change the inferer, or name no inferer and a tile with --tile=X,Y,Z")
        if name != "with_coord":
            settings[name] = value
    return settings


def _refused(config: Config, problem: str) -> CheckpointError:
    return refusal(config.file, problem, "choose the training patch with --tile=X,Y,Z")


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4096


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
