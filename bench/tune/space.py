"""The recipes that a search may try: for each setting the values that may make a case faster on this machine."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.choices import ROIS
from bench.pipeline.roi import STRATEGIES
from bench.pipeline.tiles import along
from bench.plan.variants.augmentation import OFF
from bench.plan.variants.variants import roi_absent, row_of
from engines.rewrites import REWRITES
from models.model import Model
from reports.records.record import VariantSettings

Tile = tuple[int, int, int]

OVERLAPS = (0.125, 0.25, 0.375, 0.5, 0.625)
BATCHES_ON_CPU, BATCHES_ON_CUDA = (1, 2, 3, 4), (1, 2, 4, 8, 16)
MARGINS_MM = (2.5, 5.0, 10.0, 15.0, 20.0)
INT8_DICE = (0.9,)  # beside the usual; with a higher one a search for layers takes minutes at each build
LIMITS = (1.125, 1.25, 1.5, 2.0)
"""How far a tile's sides may be from the trained ones, as factors: a network copes less with what is further away."""

LESS_WORK = 0.95  # of another tile's: less than that is not worth a try
_OF_TORCH = "channels-last"
_MARGIN = "margin_mm of "  # a ROI's
_SLOW_TO_BUILD = ("int8_dice",)


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
            margin_mm=choose(f"{_MARGIN}{roi}", self._margins(roi)) if roi != "none" else None,
            batch=value("batch"),
            streams=value("streams") if is_openvino else None,
            threads=value("threads"),
            tta=value("tta"),
            rewrites=tuple(name for name in rewrites if choose(f"rewrite {name}", (False, True))),
            int8_dice=value("int8_dice") if is_openvino and row.precision == "int8" else None,
        )

    def values_of(self, own: VariantSettings) -> dict[str, Any]:
        """What `recipe` would have chosen of each setting for `own`, one that the space is `holding`."""
        chosen: dict[str, Any] = {}

        def as_own(name: str, values: Sequence[Any]) -> Any:
            rewrite = name.partition("rewrite ")[2]
            value = rewrite in own.rewrites if rewrite else getattr(own, name.partition(" of ")[0])
            if name.startswith(_MARGIN) and value == STRATEGIES[own.roi].margin_mm:
                value = None  # which stands for the strategy's own
            chosen[name] = values[values.index(value)]
            return chosen[name]

        self.recipe(as_own)
        return chosen

    def neighbours(self, own: VariantSettings) -> list[VariantSettings]:
        """Recipes that differ from `own` in one setting; those that take long to build come last.

        Another tile is tried without INT8, which would be calibrated anew: what it does to the masks is known then.
        """
        base = self.values_of(own)
        in_float = next((name for name in self.backends if row_of(name).precision != "int8"), own.backend)
        recipes: list[VariantSettings] = []
        for name in sorted(base, key=_SLOW_TO_BUILD.__contains__):
            beside = {**base, "backend": in_float} if name == "tile" else base
            for other in self._values(name):
                if other != base[name]:
                    recipe = self.recipe(with_values({**beside, name: other}))
                    if recipe not in recipes:
                        recipes.append(recipe)
        return recipes

    def holding(self, recipes: Iterable[VariantSettings]) -> "Space":
        """The space with the values of these recipes behind its own."""
        settings = dict(self.settings)
        for own, name in itertools.product(recipes, settings.keys() - {"rewrites"}):
            value = getattr(own, name)
            if value not in settings[name] and not (name == "margin_mm" and value is None):
                settings[name] = (*settings[name], value)
        return replace(self, settings=settings)

    def _values(self, name: str) -> tuple[Any, ...]:
        if name == "backend":
            return self.backends
        if name.startswith("rewrite "):
            return (False, True)
        roi = name.partition(_MARGIN)[2]
        return self._margins(roi) if roi else self.settings[name]

    def _margins(self, roi: str) -> tuple[Any, ...]:
        """The strategy's own first."""
        return (None, *(margin for margin in self.settings["margin_mm"] if margin != STRATEGIES[roi].margin_mm))


def space_of(
    model: Model,
    usual: VariantSettings,
    backends: Sequence[str],
    tiles: Sequence[Tile],
    device: str,
    threads: Sequence[int],
) -> Space:
    """What may be tried with this network on this machine.

    Args:
        usual: the run's own settings.
        backends: those that run here and are worth a try.
        tiles: other ones than the trained, that the network takes.
        threads: numbers of threads, the run's own first.
    """
    on_cuda, program = device.startswith("cuda"), model.program
    batches = _first(usual.batch, BATCHES_ON_CUDA if on_cuda else BATCHES_ON_CPU)
    return Space(
        backends=tuple(backends),
        settings={
            "tile": (None, *tiles),
            "overlap": _first(usual.overlap, OVERLAPS),
            "roi": tuple(roi for roi in ROIS if roi_absent(roi, model) is None),
            "margin_mm": MARGINS_MM,
            "batch": (usual.batch,) if program is not None and program.batch else batches,
            "streams": (None,) if on_cuda else (None, *range(1, max(threads) + 1)),
            "threads": (None,) if on_cuda else (None, *threads[1:]),
            "tta": (usual.tta,) if usual.tta == OFF else (usual.tta, OFF),
            "rewrites": tuple(REWRITES) if program is None else (),
            "int8_dice": (None, *INT8_DICE),
        },
        usual=usual,
    )


def tiles_of_less_work(trained: Tile, shapes: Sequence[Sequence[int]], overlap: float, step: int) -> list[Tile]:
    """Tiles with which fewer voxels go through the network, over cases of these shapes; those nearest to it first.

    Neighbours overlap, and the last of an axis reaches back as far as it must, so that a tile that fits the cases can
    spare half of the work. Sides are multiples of `step`. There is one for each of `LIMITS`, where it spares more than
    the one before.
    """
    chosen, least = list[Tile](), _work(trained, shapes, overlap)
    for limit in LIMITS:
        sides = [
            [n for n in range(step, 2 * side + 1, step) if side <= limit * n and n <= limit * side] for side in trained
        ]
        best = min(itertools.product(*sides), key=lambda tile: _work(tile, shapes, overlap), default=trained)
        work = _work(best, shapes, overlap)
        if work < LESS_WORK * least:
            chosen.append((best[0], best[1], best[2]))
            least = work
    return chosen


def _work(tile: Sequence[int], shapes: Sequence[Sequence[int]], overlap: float) -> int:
    """Voxels that go through the network."""
    passes = (
        math.prod(along(max(n, side), side, overlap)[0] for n, side in zip(shape, tile, strict=True))
        for shape in shapes
    )
    return sum(passes) * math.prod(tile)


def _first(own: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    return (own, *(value for value in values if value != own))


def with_values(values: Mapping[str, Any]) -> Choose:
    """A choice of these values, and of the first of what they do not name."""
    return lambda name, offered: values.get(name, offered[0]) if values.get(name, offered[0]) in offered else offered[0]
