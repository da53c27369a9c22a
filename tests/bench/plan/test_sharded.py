"""What a shard of a run is of, and what has none."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.data.cases import fingerprint
from bench.errors import InputError
from bench.plan.plan import make_plan, sharded
from bench.plan.request import Request
from bench.plan.resumption import recorded_calibration, recorded_networks
from bench.plan.settings import inference_settings
from bench.shard import Shard
from models.options import ModelOptions
from tests.bench.conftest import SIDE
from tests.bench.plan.test_opening import Notes

SHARD = Shard(2, 3)


@pytest.fixture
def request_of_shard(network, data, tmp_path, monkeypatch) -> Request:
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    options = ModelOptions(None, (SIDE, SIDE, SIDE), None, None, None)
    return Request(
        checkpoint=network[0], model_options=options, data=data, device="cpu", backends="torch-fp32", rounds=2,
        max_cases=7, shard=SHARD, threads=1,
    )  # fmt: skip


def test_a_shard_has_its_cases_and_the_data_of_the_whole(request_of_shard, monkeypatch):
    whole = make_plan(request_of_shard, "run", "now", Notes())
    record = sharded(whole, SHARD).record
    names = [case.name for case in whole.record.cases]
    assert len(names) == 7, "of the whole, before it is divided"
    assert ([case.name for case in record.cases], record.listed_cases) == (sorted(names)[1::3], tuple(names))
    assert (record.data, whole.record.settings.shard) == (whole.record.data, "")
    assert record.settings == replace(whole.record.settings, shard="2/3")

    held = recorded_networks(record)
    inference = inference_settings(record.settings, held.model)
    assert recorded_calibration(record, record.settings, inference, Notes()) == {}, "the data are those of the whole"
    monkeypatch.setattr("bench.plan.resumption.fingerprint", lambda cases: fingerprint(cases[:-1]))
    with pytest.raises(InputError, match="the cases are not those this run began with"):
        recorded_calibration(record, record.settings, inference, Notes())


def test_fewer_cases_than_shards_are_refused(request_of_shard):
    plan = make_plan(request_of_shard, "run", "now", Notes())
    with pytest.raises(InputError, match="--shard 2/8: 7 cases in all, and each shard needs one; take at most 7"):
        sharded(plan, Shard(2, 8))


def test_rounds_that_are_not_fixed_are_refused(request_of_shard):
    with pytest.raises(InputError, match="fix the number of rounds with --rounds N"):
        make_plan(replace(request_of_shard, rounds=None), "run", "now", Notes())


def test_a_call_over_all_cases_is_refused(request_of_shard):
    line = f"{sys.executable} {Path(__file__).absolute()} {{images_dir}} {{masks_dir}}"
    with pytest.raises(InputError, match="--shard 2/3: mine runs all cases in one call, which no shard has"):
        make_plan(replace(request_of_shard, commands=[f"mine={line}"]), "run", "now", Notes())
