"""What a search may try."""

import pytest

from bench.choices import ROIS
from bench.plan.recipes import read_recipes
from bench.tune.recipe_file import recipe_text
from bench.tune.space import Space, larger_tiles, with_values
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


def test_neighbours_differ_in_one_setting_and_large_tiles_come_last():
    own = some(backend="openvino-int8")
    before, neighbours = SPACE.values_of(own), SPACE.neighbours(own)
    assert len({str(each) for each in neighbours}) == len(neighbours)
    for each in neighbours:
        after = SPACE.values_of(each)
        assert sum(before[name] != after.get(name) for name in before if name in after) == 1, each
    assert {each.roi for each in neighbours} == {"none", "body", "foreground"}
    assert [each.tile for each in neighbours].index((96, 96, 96)) == len(neighbours) - 1


@pytest.mark.parametrize("own", SPACE.neighbours(some(backend="openvino-int8", roi="foreground")), ids=str)
def test_a_recipe_comes_back_from_its_file(tmp_path, own):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text("tuned", own, "a remark"))
    assert path.read_text().startswith("# a remark\n")
    assert read_recipes(path, "coarse", 0.625, 7, "mirror") == {"tuned": own}, "whatever the run's own settings are"


@pytest.mark.parametrize(
    ("trained", "shapes", "expected"),
    [
        ((64, 64, 64), [(100, 90, 40)] * 3, {(96, 96, 96), (128, 128, 128), (128, 96, 64), (96, 96, 64)}),
        ((28, 256, 256), [], {(44, 384, 384), (56, 512, 512)}),
        ((64, 64, 64), [(300, 300, 300)], {(96, 96, 96), (128, 128, 128)}),
        ((5, 5, 5), [], {(8, 8, 8), (10, 10, 10)}),
    ],
)
def test_larger_tiles_cover_cases_or_are_multiples(trained, shapes, expected):
    tiles = larger_tiles(trained, shapes)
    assert set(tiles) == expected
    step = next(n for n in (32, 16, 8, 4, 2, 1) if all(side % n == 0 for side in trained))
    assert all(side % step == 0 for tile in tiles for side in tile)


def test_rois_of_the_space_are_those_of_recipes():
    assert set(SPACE.settings["roi"]) <= set(ROIS)
