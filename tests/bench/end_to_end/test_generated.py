"""Generated data sets and networks through `bench run`, held against an independent computation.

``scripts/generated_cases.py`` runs thousands of them.
"""

from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.bench.generated.faults import FAULTS
from tests.bench.generated.findings import Result, network_data, try_data_set, try_network


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A new folder each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    numbers = iter(range(10**6))

    def make() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


FIXED = settings(
    max_examples=12,
    derandomize=True, deadline=None, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@FIXED
@given(draw=st.randoms(use_true_random=False))
def test_data_sets_in_order_are_run_and_scored_as_by_simpleitk_and_monai(folders, draw):
    assert_clean(try_data_set(draw, folders(), ""))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_data_set_is_refused_in_a_line_that_names_it(folders, fault):
    assert_clean(try_data_set(Random(fault), folders(), fault))


@settings(FIXED, max_examples=8)
@given(draw=st.randoms(use_true_random=False))
def test_networks_that_are_legal_python_are_run_and_others_refused(folders, tmp_path, draw):
    assert_clean(try_network(draw, folders(), network_data(tmp_path)))


def assert_clean(result: Result) -> None:
    assert not result.findings, result.kind
