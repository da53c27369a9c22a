"""What a trial opens its worker with."""

import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from bench.cli.terminal import PlainProgress
from bench.errors import StorageError
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.plan.resumption import recorded_networks
from bench.schedule.interleave import Interleaver
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from bench.tune.trials import Shipped, Trials
from reports.records.store import Run
from tests.bench.written_cases import SIDE, write_cases

QUIET = PlainProgress(StringIO())


@pytest.fixture
def trials(network, data, tmp_path, monkeypatch) -> Trials:
    """Of a search whose reference is a float backend."""
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    shutil.copytree(data, root)
    write_cases(root / "train", "train", 3, network[1], seed=1)
    record = make_plan(
        Request(checkpoint=network[0], data=root, backends="torchscript", device="cpu"), "", "", QUIET
    ).record
    directory = RunDirectory.create(tmp_path / "run")
    shipped = Shipped(Run(record, (), directory.folder), "torchscript", 16)
    return Trials(shipped, directory, Interleaver(RunStore(directory, {}), record, QUIET), recorded_networks(record))


@pytest.mark.parametrize("tile", [None, (SIDE, SIDE, 2 * SIDE)])
def test_int8_is_calibrated_also_where_a_float_recipe_had_the_tile_before(trials, tile):
    usual = trials._record.settings.variants["torchscript"]
    in_float = replace(usual, backend="openvino-fp32", tile=tile)
    assert trials.opening("a", in_float).target.calibration is None
    int8 = trials.opening("b", replace(in_float, backend="openvino-int8"))
    assert int8.target.calibration is not None
    assert int8.target.tile == (tile or trials._record.settings.tile)
    again = trials.opening("c", replace(in_float, backend="openvino-int8", overlap=0.25))
    assert again.target.calibration is int8.target.calibration, "training cases are looked at once"


def test_a_recipe_is_opened_as_a_run_opens_it(trials, tmp_path):
    own = replace(trials._record.settings.variants["torchscript"], overlap=0.25, batch=2)
    opening = trials.opening("trial-0002", own)
    assert (opening.name, opening.settings.overlap, opening.target.batch) == ("trial-0002", 0.25, 2)
    assert opening.checkpoint == Path(trials._record.checkpoint.path)


def test_a_full_disk_ends_the_search_and_is_no_recipes_fault(trials, monkeypatch):
    def full(*_: object) -> None:
        raise StorageError("cannot be written (No space left on device)")

    monkeypatch.setattr(trials, "_measured", full)
    with pytest.raises(StorageError):
        trials.measure(2, trials._record.settings.variants["torchscript"], None)
