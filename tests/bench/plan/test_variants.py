"""Names of backends, with batches and repetitions."""

from dataclasses import replace
from io import StringIO

import pytest

import engines
from bench.cli.terminal import PlainProgress
from bench.errors import InputError
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.plan.variants import backend_names, batch_of, required_names, table_name


def test_the_baseline_comes_first_and_repetitions_get_a_number():
    assert backend_names("torch-amp, ort-int8") == ("torch-fp32", "torch-amp", "ort-int8")
    assert backend_names("torch-amp,torch-fp32,torch-fp32") == ("torch-fp32", "torch-fp32#2", "torch-amp")
    assert backend_names("all") == tuple(engines.BACKENDS)


def test_a_batch_makes_an_arm_of_its_own():
    assert backend_names("torch-fp32@4") == ("torch-fp32", "torch-fp32@4")
    assert backend_names("torch-amp@04,torch-amp@4") == ("torch-fp32", "torch-amp@4", "torch-amp@4#2")
    everything = backend_names("all,all@8")
    assert everything == (*engines.BACKENDS, *(f"{name}@8" for name in engines.BACKENDS))
    assert required_names("torch-amp@2", backend_names("torch-amp@2")) == ("torch-amp@2",)


def test_an_arm_tells_its_backend_and_its_batch():
    assert (table_name("ort-int8@4#2"), batch_of("ort-int8@4#2", 1)) == ("ort-int8", 4)
    assert (table_name("torch-fp32#2"), batch_of("torch-fp32#2", 3)) == ("torch-fp32", 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("torch-amp@0", "'torch-amp@0': a batch is a number of tiles from 1 to 1024, as in torch-amp@4"),
        ("torch-amp@", "'torch-amp@'"),
        ("all@x", "as in all@4"),
        ("torch-amp@-1", "'torch-amp@-1'"),
        ("torch-amp@9999", "1024"),
        ("openvino-fp64@2", "unknown backend 'openvino-fp64'; choose from all, torch-fp32"),
        (" , ", "no backend named"),
    ],
)
def test_what_is_no_backend_is_refused(text, told):
    with pytest.raises(InputError) as refused:
        backend_names(text)
    assert str(refused.value).startswith("--backends: ")
    assert told in str(refused.value)


def test_a_batch_reaches_engine_and_pipeline():
    plan = make_plan(
        Request(backends="torch-amp@3", device="cpu", max_cases=5, batch=2), "", "", PlainProgress(StringIO())
    )
    assert [(one.name, one.target.batch, one.settings.batch) for one in plan.opens] == [
        ("torch-fp32", 2, 2), ("torch-amp@3", 3, 3),
    ]  # fmt: skip
    assert plan.opens[1].backend == engines.BACKENDS["torch-amp"]
    assert replace(plan.opens[1].settings, batch=2) == plan.opens[0].settings
    assert plan.record.declaration["batch"] == "2, but 3 where a backend's name says so"
