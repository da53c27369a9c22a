"""The report's requirements: what the best variant reaches of what was asked for."""

from collections.abc import Sequence
from math import inf, isfinite

from reports import formatting
from reports.decision.verdict import KEPT, LOST, SHOWN_BY, UNDECIDED, judge_accuracy
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, SHOWN, count
from reports.records.record import TRUTH
from reports.render.commonmark import fold, section, table, text
from reports.summary.summary import Requirement, Summary

_STATUS = {True: "met", False: "**not met**", None: "not shown"}


def requirements_section(summary: Summary) -> str:
    head = ["requirement", "target", text(summary.record.baseline), text(summary.cases_of or "best variant"), "status"]
    shown = _shown(summary.requirements)
    body = table(head, [*map(_requirement_row, shown), _accuracy_row(summary)], (0, 4))
    rest = ""
    if len(shown) < len(summary.requirements):
        every = table(head, map(_requirement_row, summary.requirements), (0, 4))
        rest = fold(f"All {len(summary.requirements)}; above are the {SHOWN} scores that miss most", every)
    return section("Requirements", _data_note(summary), _of_refuted(summary), body, rest)


def _of_refuted(summary: Summary) -> str:
    """Whose figures these are, where there is no best variant."""
    if summary.subject is not None or summary.compared is None:
        return ""
    return f"No variant meets the claim. Here is the fastest, {text(summary.compared.name)}."


def _shown(requirements: Sequence[Requirement]) -> list[Requirement]:
    """All that are not of a structure, and of these the `SHOWN` that miss their target by most."""

    def above(own: Requirement) -> float:
        unknown = -inf if own.applicable else inf
        return own.best - own.target if isfinite(own.best) else unknown

    of_structures = [own for own in requirements if own.key is not None and own.key.structure is not None]
    worst = {own.key for own in sorted(of_structures, key=above)[:SHOWN]}
    return [own for own in requirements if own.key is None or own.key.structure is None or own.key in worst]


def _requirement_row(requirement: Requirement) -> list[str]:
    label = text(requirement.label)
    if not requirement.applicable:
        return [label, f">= {requirement.target:.2f}", *[NOT_APPLICABLE] * 3]
    status = _STATUS[requirement.met] if isfinite(requirement.best) else NOT_MEASURED
    if requirement.key is not None:
        scores = [formatting.score(requirement.baseline), formatting.score(requirement.best)]
        return [label, f">= {requirement.target:.2f}", *scores, status]
    target = f">= {formatting.plain_percent(requirement.target)}"
    best = formatting.bounded(requirement.best, requirement.low, requirement.high)
    return [label, target, "0 %, the reference", best, status]


def _accuracy_row(summary: Summary) -> list[str]:
    """The accuracy against the baseline's, which a score far above its target may still have lost; or the agreement."""
    row = summary.row(summary.cases_of)
    state = judge_accuracy(row.accuracy, summary.claim)[0] if row and row.accuracy.cases else NOT_MEASURED
    status = {KEPT: _STATUS[True], LOST: _STATUS[False], UNDECIDED: _STATUS[None]}.get(state, NOT_MEASURED)
    by = summary.claim.accuracy
    label = "accuracy beside the baseline" if by == TRUTH else SHOWN_BY[by]
    return [label, "within margins", "the reference", state, status]


def _data_note(summary: Summary) -> str:
    record = summary.record
    sentence = f"Measured on {count(summary.cases, 'case')} of these data, on {record.host.gpu or 'the CPU'}."
    if record.data.demo:
        effect = "accuracy" if summary.claim.accuracy == TRUTH else "output"
        sentence += " **The data are the made-up volumes of the demo**: they show what an engine does to time "
        sentence += f"and {effect}, and nothing about patients."
    if record.checkpoint.demo:
        sentence += " The network is the demo's own, trained on such volumes."
    if any(requirement.key for requirement in summary.requirements):
        sentence += " The targets are the task's; a score is held against its target by its mean."
    return sentence
