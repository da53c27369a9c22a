"""What the claim about accuracy is shown by."""

from pathlib import Path

import pytest

from bench.data.layouts import CaseFiles
from bench.errors import InputError
from bench.plan.accuracy_claim import refuse_margins, resolve_accuracy
from bench.plan.request import Request

ROOT = Path("data")
MASKED, BARE = (CaseFiles(name, (ROOT / f"{name}_0000.nii.gz",), mask, None) for name, mask in
                (("a", ROOT / "a.nii.gz"), ("b", None)))  # fmt: skip


@pytest.mark.parametrize(("asked", "cases", "accuracy"), [
    ("auto", [MASKED], "truth"), ("auto", [BARE], "agreement"), ("truth", [MASKED], "truth"),
    ("agreement", [MASKED], "agreement"), ("agreement", [MASKED, BARE], "agreement"),
])  # fmt: skip
def test_it_is_the_truth_where_there_is_any_unless_asked_otherwise(asked, cases, accuracy):
    assert resolve_accuracy(Request(accuracy=asked), ROOT, cases) == accuracy


@pytest.mark.parametrize(("request_", "cases", "said"), [
    (Request(accuracy="truth"), [BARE], "data: no case of the split 'validation' has a mask, which --accuracy truth"),
    (Request(), [MASKED, BARE], "b_0000.nii.gz: no mask beside it, but other cases have one; add it, take the case "
     "out, or judge the agreement with the baseline's output alone with --accuracy agreement"),
    (Request(max_dsc_drop=0.02), [BARE], "--max-dsc-drop: a margin of the truth, and this run is judged by agreement; "
     "leave it out, or use --min-agreement-dsc, --min-agreement-nsd, --min-worst-dsc, --max-class-changes"),
    (Request(min_worst_dsc=0.8), [MASKED], "--min-worst-dsc: a margin of the agreement, and this run is judged by "
     "truth; leave it out, or use --max-dsc-drop, --max-nsd-drop, --max-f1-drop"),
])  # fmt: skip
def test_what_cannot_be_held_against_anything_is_refused(request_, cases, said):
    with pytest.raises(InputError) as caught:
        resolve_accuracy(request_, ROOT, cases)
    assert said in str(caught.value)


def test_margins_of_the_kind_are_taken():
    refuse_margins("agreement", ["min_worst_dsc", "min_reduction_pct"])
