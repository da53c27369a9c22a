"""The recipes that a search may try: for each setting the values that may make a case faster on this machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.choices import ROIS
from bench.plan.augmentation import OFF
from bench.plan.variants import roi_absent, row_of
from engines.rewrites import REWRITES
from models.model import Model
from reports.records.record import Case, VariantSettings

Tile = tuple[int, int, int]

OVERLAPS = (0.125, 0.25, 0.375, 0.5, 0.625)
BATCHES_ON_CPU, BATCHES_ON_CUDA = (1, 2, 3, 4), (1, 2, 4, 8, 16)
MARGINS_MM = (2.5, 5.0, 10.0, 15.0, 20.0)
INT8_DICE = (0.9, 0.99, 0.995)
ISOTROPIC = (1.5, 2.0)  # times the trained tile
MOST_LARGER = 8.0  # times the voxels of the trained tile
_OF_TORCH = "channels-last"


class Choose(Protocol):
    """Chooses one of the values of a setting."""

    def __call__(self, name: str, values: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Space:
    """What recipes are made of.

    Attributes:
        backends: that run here.
        settings: the values of each setting, the run's own first; those with a single one are not searched.
        usual: a variant with the run's own settings.
    """

    backends: tuple[str, ...]
    settings: Mapping[str, tuple[Any, ...]]
    usual: VariantSettings

    def recipe(self, choose: Choose) -> VariantSettings:
        """A recipe; a setting that means nothing beside those chosen before is not asked for."""
        backend = choose("backend", self.backends)
        row = row_of(backend)

        def value(name: str) -> Any:
            values = self.settings[name]
            return values[0] if len(values) < 2 else choose(name, values)

        is_openvino = "openvino" in row.runtime.packages
        roi = value("roi")
        rewrites = [name for name in REWRITES if name in self.settings["rewrites"]]
        if row.to_run:  # another runtime, with a layout of its own
            rewrites = [name for name in rewrites if name != _OF_TORCH]
        return replace(
            self.usual,
            backend=backend,
            recipe=True,
            tile=value("tile"),
            overlap=value("overlap"),
            roi=roi,
            margin_mm=choose("margin_mm", (None, *self.settings["margin_mm"])) if roi != "none" else None,
            batch=value("batch"),
            streams=value("streams") if is_openvino else None,
            threads=value("threads"),
            tta=value("tta"),
            rewrites=tuple(name for name in rewrites if choose(f"rewrite {name}", (False, True))),
            int8_dice=value("int8_dice") if is_openvino and row.precision == "int8" else None,
        )

    def values_of(self, own: VariantSettings) -> dict[str, Any]:
        """What `recipe` would have chosen of each setting for a recipe like `own`; of what it has not, the first."""
        chosen: dict[str, Any] = {}

        def as_own(name: str, values: Sequence[Any]) -> Any:
            rewrite = name.partition("rewrite ")[2]
            chosen[name] = rewrite in own.rewrites if rewrite else getattr(own, name)
            if chosen[name] not in values:
                chosen[name] = values[0]
            return chosen[name]

        self.recipe(as_own)
        return chosen

    def neighbours(self, own: VariantSettings) -> list[VariantSettings]:
        """Recipes that differ from `own` in one setting."""
        base = self.values_of(own)
        found: list[VariantSettings] = []
        for name in sorted(base, key=lambda name: name == "tile"):  # last, as they take longest to build
            values = self.backends if name == "backend" else self._values(name)
            for other in values:
                if other != base[name]:
                    recipe = self.recipe(with_values({**base, name: other}))
                    if recipe not in found:
                        found.append(recipe)
        return found

    def _values(self, name: str) -> tuple[Any, ...]:
        if name.startswith("rewrite "):
            return (False, True)
        return (None, *self.settings[name]) if name == "margin_mm" else self.settings[name]


def space_of(
    model: Model,
    usual: VariantSettings,
    backends: Sequence[str],
    cases: Sequence[Case],
    device: str,
    threads: Sequence[int],
) -> Space:
    """What may be tried with this network on this machine.

    Args:
        usual: the run's own settings.
        backends: those that run here and are worth a try.
        cases: by whose shapes larger tiles are chosen.
        threads: numbers of threads, the run's own first.
    """
    on_cuda = device.startswith("cuda")
    as_stored = model.plans is None and model.bundle is None
    batches = BATCHES_ON_CUDA if on_cuda else BATCHES_ON_CPU
    program = model.program is not None
    streams = (None,) if on_cuda else (None, *range(1, max(threads) + 1))
    return Space(
        backends=tuple(backends),
        settings={
            "tile": (None,)
            if program
            else (None, *larger_tiles(model.tile, [case.shape for case in cases] * as_stored)),
            "overlap": _first(usual.overlap, OVERLAPS),
            "roi": tuple(roi for roi in ROIS if roi_absent(roi, model) is None),
            "margin_mm": MARGINS_MM,
            "batch": (usual.batch,)
            if program and model.program and model.program.batch
            else _first(usual.batch, batches),
            "streams": streams,
            "threads": (None,) if on_cuda else (None, *threads[1:]),
            "tta": (usual.tta,) if usual.tta == OFF else (usual.tta, OFF),
            "rewrites": () if program else tuple(REWRITES),
            "int8_dice": (None, *(dice for dice in INT8_DICE if dice != 0.99)),
        },
        usual=usual,
    )


def larger_tiles(trained: Tile, shapes: Sequence[Sequence[int]]) -> list[Tile]:
    """Tiles that cover a case in fewer passes: multiples of the trained one, and such as cover most cases.

    Sides are multiples of what divides the trained ones, up to 32, since poolings must divide them.
    """
    step = next(n for n in (32, 16, 8, 4, 2, 1) if all(side % n == 0 for side in trained))

    def rounded(sides: Sequence[float]) -> Tile:
        x, y, z = (max(step, step * math.ceil(side / step)) for side in sides)
        return x, y, z

    wanted = [rounded([factor * side for side in trained]) for factor in ISOTROPIC]
    for share in (0.5, 0.9) if shapes else ():
        covering = [sorted(sides)[min(len(sides) - 1, int(share * len(sides)))] for sides in zip(*shapes, strict=True)]
        wanted.append(rounded(covering))
        wanted.append(rounded([min(cover, 1.5 * side) for cover, side in zip(covering, trained, strict=True)]))
    most = MOST_LARGER * math.prod(trained)
    return [tile for tile in dict.fromkeys(wanted) if tile != trained and math.prod(tile) <= most]


def _first(own: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    return (own, *(value for value in values if value != own))


def with_values(values: Mapping[str, Any]) -> Choose:
    """A choice of these values, and of the first of what they do not name."""
    return lambda name, offered: values.get(name, offered[0]) if values.get(name, offered[0]) in offered else offered[0]
