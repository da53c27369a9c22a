"""What a search may try."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from bench.choices import ROIS
from bench.pipeline.roi import BODY_MARGIN_MM
from bench.pipeline.tiles import sliding_window
from bench.plan.variants.recipes import read_recipes
from bench.tune.recipe_file import recipe_text
from bench.tune.space import LIMITS, Space, tiles_of_less_work, with_values
from engines.rewrites import REWRITES
from reports.records.record import VariantSettings

USUAL = VariantSettings(backend="torch-fp32", roi="none", overlap=0.5, batch=1)
SPACE = Space(
    backends=("openvino-int8", "openvino-fp32", "torch-half"),
    settings={
        "tile": (None, (96, 96, 96)),
        "overlap": (0.5, 0.25),
        "roi": ("none", "body", "foreground"),
        "margin_mm": (5.0, 10.0),
        "batch": (1, 2),
        "streams": (None, 1, 2),
        "threads": (None, 1),
        "tta": ("none",),
        "rewrites": tuple(REWRITES),
        "int8_dice": (None, 0.9),
    },
    usual=USUAL,
)


def some(**values) -> VariantSettings:
    return SPACE.recipe(with_values(values))


def test_a_setting_that_means_nothing_beside_the_others_is_not_asked_for():
    asked: list[str] = []

    def first(name, values):
        asked.append(name)
        return values[0] if name != "backend" else "torch-half"

    recipe = SPACE.recipe(first)
    assert not {"streams", "int8_dice", "margin_mm", "tta"} & set(asked)
    assert (recipe.streams, recipe.int8_dice, recipe.margin_mm, recipe.tta) == (None, None, None, "none")
    assert {"tile", "overlap", "roi", "batch", "threads", "rewrite channels-last"} <= set(asked)


def test_a_rewrite_of_memory_that_only_torch_has_is_asked_of_torch_alone():
    wanted = {f"rewrite {name}": True for name in REWRITES}
    assert some(backend="torch-half", **wanted).rewrites == tuple(REWRITES)
    assert some(backend="openvino-fp32", **wanted).rewrites == tuple(n for n in REWRITES if n != "channels-last")


def test_what_a_recipe_was_made_of_is_read_from_it():
    own = some(backend="openvino-int8", roi="foreground", margin_mm=5.0, tile=(96, 96, 96), streams=2, overlap=0.25)
    assert SPACE.recipe(with_values(SPACE.values_of(own))) == own


def test_neighbours_differ_in_one_setting_and_those_that_take_long_to_build_come_last():
    own = some(backend="openvino-int8")
    before, neighbours = SPACE.values_of(own), SPACE.neighbours(own)
    assert len({str(each) for each in neighbours}) == len(neighbours)
    for each in neighbours:
        after = SPACE.values_of(each)
        differing = [name for name in before if name in after and before[name] != after[name]]
        assert len(differing) == 1 or (each.tile is not None and differing == ["backend", "tile"]), each
    assert {each.roi for each in neighbours} == {"none", "body", "foreground"}
    assert some(backend="openvino-fp32", tile=(96, 96, 96)) in neighbours, "a tile without INT8"
    assert neighbours[-1].int8_dice == 0.9


OWN = VariantSettings(
    backend="openvino-int8", roi="foreground", overlap=0.33, batch=5, tta="mirror:x", rewrites=("drop-biases",),
    tile=(20, 20, 16), margin_mm=7.5, streams=3, threads=4, int8_dice=0.95, recipe=True,
)  # fmt: skip


def test_a_search_from_a_recipe_with_values_of_its_own_keeps_them():
    space = SPACE.holding([OWN, replace(OWN, backend="openvino-fp32", int8_dice=None, overlap=0.4)])
    assert space.recipe(with_values(space.values_of(OWN))) == OWN
    assert space.settings["overlap"] == (0.5, 0.25, 0.33, 0.4)
    assert space.settings["margin_mm"] == (5.0, 10.0, 7.5)
    differing = [
        {name for name, value in vars(each).items() if value != vars(OWN)[name]} for each in space.neighbours(OWN)
    ]
    known = ({"roi", "margin_mm"}, {"backend", "int8_dice"}, {"backend", "tile", "int8_dice"})
    assert all(len(names) == 1 or names in known or "streams" in names for names in differing), differing
    assert {"overlap"} in differing
    assert {"batch"} in differing


def test_a_margin_that_is_the_strategys_own_is_no_other_value():
    own = replace(some(backend="openvino-fp32", roi="body"), margin_mm=BODY_MARGIN_MM)
    assert SPACE.holding([own]).values_of(own)["margin_mm of body"] is None


@pytest.mark.parametrize("own", SPACE.neighbours(some(backend="openvino-int8", roi="foreground")), ids=str)
def test_a_recipe_comes_back_from_its_file(tmp_path, own):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text("tuned", own, "a remark"))
    assert path.read_text().startswith("# a remark\n")
    assert read_recipes(path, "coarse", 0.625, 7, "mirror") == {"tuned": own}, "whatever the run's own settings are"


def test_tiles_that_fit_the_cases_spare_work_and_are_near_the_trained_one():
    shapes = [(103, 91, 43), (120, 101, 61), (97, 95, 54)]
    tiles = tiles_of_less_work((64, 64, 64), shapes, 0.5, 8)
    assert tiles
    spared = [work((64, 64, 64), shapes)]
    for tile, limit in zip(tiles, LIMITS[-len(tiles) :], strict=True):
        assert all(side % 8 == 0 and 64 / limit <= side <= 64 * limit for side in tile)
        spared.append(work(tile, shapes))
    assert all(after < 0.95 * before for before, after in pairwise(spared))
    assert spared[-1] < 0.6 * spared[0]


def work(tile, shapes):
    """Voxels in all tiles, counted one by one."""
    return sum(len(sliding_window(shape, tile, 0.5).starts) for shape in shapes) * math.prod(tile)


def test_there_is_no_tile_of_less_work_where_cases_are_as_large_as_the_trained_one():
    assert tiles_of_less_work((64, 64, 64), [(64, 64, 64)], 0.5, 8) == []
    assert tiles_of_less_work((5, 5, 5), [(5, 5, 5)], 0.5, 32) == [], "no side that poolings divide"


def test_rois_of_the_space_are_those_of_recipes():
    assert set(SPACE.settings["roi"]) <= set(ROIS)
