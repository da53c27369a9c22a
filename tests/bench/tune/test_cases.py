"""Which cases a search may see."""

import shutil
from dataclasses import replace
from io import StringIO

import pytest

from bench.cli.terminal import PlainProgress
from bench.errors import InputError
from bench.plan.request import Request
from bench.tune.cases import MOST, part
from reports.records.record import AGREEMENT, TRUTH
from tests.bench.plan.test_calibration import write

QUIET = PlainProgress(StringIO())


@pytest.fixture
def cases(tmp_path):
    """Writes so many cases of each split."""

    def make(**splits: int) -> Request:
        for split, count in splits.items():
            for number in range(count):
                write(tmp_path, split, number)
        return Request(data=tmp_path)

    return make


def test_cases_of_the_training_split_are_tuned_on(cases):
    request = cases(train=6, validation=8)
    parts = part(request, None, QUIET)
    assert (parts.tuning.split, len(parts.tuning.cases), parts.tuning.tuning) == ("train", 6, True)
    assert parts.evaluation == replace(request, accuracy=TRUTH)
    assert parts.evaluated == 8
    assert parts.remark.startswith("6 cases of the split train, which the network was trained on")


def test_many_training_cases_are_not_all_taken(cases):
    parts = part(cases(train=MOST + 6, validation=6), None, QUIET)
    assert len(set(parts.tuning.cases)) == MOST


@pytest.mark.parametrize("training", [0, 4])
def test_without_enough_of_them_half_of_the_evaluated_split_is_taken(cases, training):
    parts = part(cases(train=training, validation=11), None, QUIET)
    seen, kept = set(parts.tuning.cases), set(parts.evaluation.cases)
    assert (len(seen), len(kept), parts.evaluated) == (5, 6, 6)
    assert not seen & kept
    assert not parts.tuning.tuning, "what is calibrated on must still be other cases"
    assert parts.remark == "every second case of the split validation; the others are evaluated"


def test_another_split_on_request(cases):
    parts = part(cases(train=6, validation=8, test=7), "test", QUIET)
    assert (parts.tuning.split, parts.remark) == ("test", "7 cases of the split test")
    with pytest.raises(InputError):
        part(cases(validation=1), "nowhere", QUIET)


BOTH = ", for the search and for its confirmation, as"
ELSE = "; they need at least 5 each: {}, or name another split with --tuning-split"


@pytest.mark.parametrize(
    ("training", "evaluated", "tuning_split", "most", "refused"),
    [
        (0, 9, None, None, f"9 cases{BOTH} there is no usable split train beside it{ELSE.format('add cases')}"),
        (4, 1, None, None, f"1 case{BOTH} the split train has 4 cases with masks{ELSE.format('add cases')}"),
        (6, 9, "validation", None, f"9 cases{BOTH} --tuning-split names it too{ELSE.format('add cases')}"),
        (
            0, 12, None, 9,
            f"9 of its 12 cases, by --max-cases{BOTH} there is no usable split train beside it"
            f"{ELSE.format('give --max-cases 10 or more')}",
        ),
        (
            6, 8, "validation", 7,
            f"7 of its 8 cases, by --max-cases{BOTH} --tuning-split names it too"
            f"{ELSE.format('leave --max-cases out and add cases')}",
        ),
    ],
)  # fmt: skip
def test_too_few_cases_are_refused_with_what_made_them_few(cases, training, evaluated, tuning_split, most, refused):
    request = replace(cases(train=training, validation=evaluated), max_cases=most)
    with pytest.raises(InputError) as error:
        part(request, tuning_split, QUIET)
    assert str(error.value) == f"--split validation: {refused}"


def test_an_image_that_is_in_both_is_refused_under_whatever_name(cases, tmp_path):
    request = cases(train=6, validation=6)
    shutil.copy(
        tmp_path / "train" / "subtype0" / "train_000_0000.nii.gz",
        tmp_path / "validation" / "subtype2" / "validation_002_0000.nii.gz",
    )
    with pytest.raises(InputError, match=r"also a tuning case .* a search must not see what confirms it"):
        part(request, None, QUIET)


def test_an_image_that_is_in_both_halves_is_refused_as_well(cases, tmp_path):
    request = cases(validation=10)
    folder = tmp_path / "validation"
    shutil.copy(folder / "subtype0" / "validation_000_0000.nii.gz", folder / "subtype1" / "validation_001_0000.nii.gz")
    with pytest.raises(InputError, match=r"also a tuning case .* a search must not see what confirms it"):
        part(request, None, QUIET)


def test_the_search_is_judged_as_its_confirmation_will_be(cases, tmp_path):
    request = cases(train=6, test=6)
    for mask in set((tmp_path / "test").rglob("*.nii.gz")) - set((tmp_path / "test").rglob("*_0000.nii.gz")):
        mask.unlink()
    parts = part(replace(request, split="test"), None, QUIET)
    assert parts.tuning.accuracy == parts.evaluation.accuracy == AGREEMENT
    with pytest.raises(InputError, match="max-dsc-drop"):
        part(replace(request, split="test", max_dsc_drop=0.01), None, QUIET)


def test_the_training_split_confirms_nothing(cases):
    with pytest.raises(InputError, match="--split train: a confirmation needs cases that neither"):
        part(replace(cases(train=12), split="train"), None, QUIET)
