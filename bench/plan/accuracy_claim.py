"""What the claim about accuracy is shown by: the truth, or the agreement with the baseline's own output."""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from bench.data.layouts import CaseFiles
from bench.errors import InputError
from bench.plan.request import Request
from reports.decision.verdict import MARGINS
from reports.records.record import AGREEMENT, TRUTH


def resolve_accuracy(request: Request, root: Path, cases: Collection[CaseFiles]) -> str:
    """What predictions will be scored against: as asked, else the truth where the cases have masks.

    Raises:
        InputError: the truth was asked for, or some cases have it, and it is missing; or a margin is of the other one.
    """
    masked = [case for case in cases if case.mask_path is not None]
    if request.accuracy == TRUTH and not masked:
        raise InputError(
            f"{root}: no case of the split '{request.split}' has a mask, which --accuracy truth needs; add the masks, "
            "or leave the option out to judge the agreement with the baseline's output"
        )
    accuracy = request.accuracy if request.accuracy in MARGINS else TRUTH if masked else AGREEMENT
    if accuracy == TRUTH and len(masked) < len(cases):
        missing = next(case for case in cases if case.mask_path is None)
        raise InputError(
            f"{missing.image_path}: no mask beside it, but other cases have one; add it, take the case out, or judge "
            "the agreement with the baseline's output alone with --accuracy agreement"
        )
    usual = {each.name: each.default for each in fields(Request)}
    refuse_margins(accuracy, [name for name, default in usual.items() if getattr(request, name) != default])
    return accuracy


def refuse_margins(accuracy: str, stated: Collection[str]) -> None:
    """Refuse margins of the other kind among the `stated` options.

    Raises:
        InputError: one would be held against nothing.
    """
    ours = [_option(name) for name in MARGINS[accuracy]]
    for other, margins in MARGINS.items():
        wrong = [_option(name) for name in margins if name in stated]
        if other != accuracy and wrong:
            raise InputError(
                f"{wrong[0]}: a margin of the {other}, and this run is judged by {accuracy}; leave it out, or use "
                f"{', '.join(ours)}"
            )


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"
