"""What was tested, and how: the change, the network, the data, the rules that were set beforehand."""

from collections.abc import Iterator
from typing import Any

from reports import formatting
from reports.decision.verdict import SHOWN_BY
from reports.formatting import count, plain_percent
from reports.records.record import INTERLEAVED, TRUTH, RunRecord, Settings, VariantRecord
from reports.render.commonmark import bullets, section, text, words
from reports.render.sections.provenance import method_list
from reports.render.sections.variants import of_launches
from reports.summary.summary import Row, Summary

NOT_STATED = "*Not stated*"
_PROTOCOLS = {"sliding-window": "the whole volume by a sliding window", "center-patch": "one centre patch of each case"}


_CONFIRMATION = {
    True: "the winner was timed again beside the baseline by new processes, and the verdict on the time rests on those "
    "samples alone",
    False: "none was taken",
}
_RACING = "the baseline and all variants that neither have left nor wait for the accuracy of a faster one"
_OF_COMMANDS = "What an own command runs is not known to the run: that it is this network is its author's word."


def purpose_section(title: str, summary: Summary) -> str:
    """What the report is about, and what it cannot know."""
    record, claim = summary.record, summary.claim
    subject = f"`{summary.subject}`" if summary.subject else "a variant of the run"
    why = (
        f"To verify that {subject} may run the network in the place of `{record.baseline}`: that a case takes at least "
        f"{plain_percent(claim.min_reduction_pct)} less time, and that {SHOWN_BY[claim.accuracy]} is kept within the "
        "margins of the claim. A case goes from the image file on disk to the mask, and the class where there is one, "
        "on disk."
    )
    judged = (
        "Masks and classes were scored against the ground truth that the data hold."
        if claim.accuracy == TRUTH
        else "**No ground truth was used.** Masks and classes were scored against the baseline's own output; that they "
        "agree says nothing about how right the baseline is."
    )
    unknown = ("product and manufacturer", "intended use", "users and clinical environment", "safety class")
    facts = words(["what", "as far as the run knows"], [[name, NOT_STATED] for name in unknown])
    return section(title, why, judged, facts)


def tested_section(title: str, summary: Summary) -> str:
    """The network, the reference, and the modification."""
    record, subject = summary.record, summary.row(summary.subject)
    baseline = summary.row(record.baseline)
    return section(
        title,
        words(["network", ""], [[name, value] for name, value in _network(record)]),
        "The modification is the way in which this network is run. It comes of the same trained weights; in which "
        "precision they were multiplied stands below.",
        _OF_COMMANDS * any(row.settings.command is not None for row in (baseline, subject) if row),
        _change(baseline, subject),
    )


def _network(record: RunRecord) -> list[tuple[str, str]]:
    task, checkpoint = record.task, record.checkpoint
    structures = [
        f"{name} ({' and '.join(map(str, own.labels)) or 'all labels'})" for name, own in task.structures.items()
    ]
    ensemble = f", an ensemble of {1 + len(checkpoint.members)}" if checkpoint.members else ""
    return [
        ("task", _known(task.name)),
        ("channels of the image", _known(", ".join(task.channels))),
        ("structures that are scored (labels)", _known(", ".join(structures))),
        ("classes of a case", text(", ".join(task.class_names) or task.classes) if task.classes else "none"),
        ("architecture", f"{text(checkpoint.architecture)}, {checkpoint.parameters:,} parameters{ensemble}"),
        ("training data, annotation, training", NOT_STATED),
    ]


def _change(baseline: Row | None, subject: Row | None) -> str:
    rows = [row for row in (baseline, subject) if row is not None]
    facts: list[tuple[str, Any]] = [
        ("made of", lambda row: text(row.settings)),
        ("ran on", lambda row: text(row.evidence.provider) if row.evidence else formatting.NOT_MEASURED),
        ("precision of its arithmetic", _precision),
        ("median case time", lambda row: row.case_median),
        ("peak memory", lambda row: formatting.mebibytes(row.peak_memory_bytes)),
        ("time to build", lambda row: formatting.seconds(row.build_s)),
    ]
    heads = ["reference", "modification"][: len(rows)]
    head = ["", *(f"{kind}: {text(row.name)}" for kind, row in zip(heads, rows, strict=True))]
    return words(head, [[name, *(of(row) for row in rows)] for name, of in facts]) if rows else ""


def _precision(row: Row) -> str:
    shares = sorted((row.evidence.mac_share if row.evidence else {}).items(), key=lambda share: -share[1])
    known = ", ".join(f"{name} {100 * part:.3g} %" for name, part in shares if part > 0)
    return text(known) or formatting.NOT_MEASURED


def _launches(variant: VariantRecord) -> int:
    return len({(sample.shard, sample.launch) for sample in variant.samples if sample.phase == INTERLEAVED})


def method_section(title: str, summary: Summary) -> str:
    """The protocol, which for a declared run was written down beforehand."""
    record, settings = summary.record, summary.record.settings
    protocol = _PROTOCOLS.get(settings.protocol, settings.protocol)
    unknown = "how they were chosen"
    if settings.accuracy == TRUTH:
        unknown += ", and how their truth was made"
    launches = max(map(_launches, summary.run.variants), default=0)
    taking = _RACING if settings.race else "all variants"
    points = bullets([
        f"Declaration: {_declaration(summary)}.",
        f"Cases: {_cases(record)}. Not stated: {unknown}.",
        f"Inference: {protocol}, tile {' x '.join(map(str, settings.tile))}, overlap {settings.overlap:g}, "
        f"preprocessing as below under the settings that were held equal, "
        f"{record.threads} {'thread' if record.threads == '1' else 'threads'}.",
        f"Order: every round runs each case by {taking}, one after the other, in random order "
        f"(seed {settings.seed}); {launches} {'launch' if launches == 1 else 'launches'} of the processes.",
        *_left(summary),
        *_shards(record),
        f"Stopping: {_stopping(settings)}.",
        f"Confirmation: {_CONFIRMATION[summary.confirmation is not None]}{_on_fewer(summary)}.",
    ])  # fmt: skip
    equal = words(
        ["held equal for all variants", ""], [[text(k), text(v)] for k, v in record.controlled_settings.items()]
    )
    return section(
        title,
        points,
        "How the figures and the verdict are made:",
        method_list(summary.claim.accuracy, shards=bool(record.shards)),
        equal,
    )


def _shards(record: RunRecord) -> list[str]:
    """How the cases were divided, where they were."""
    number = len(record.shards)
    return [f"Shards: {number}, each with a part of the cases on one machine; a level of the bounds."] * (number > 0)


def _left(summary: Summary) -> Iterator[str]:
    """What had fewer samples than the rest, and why."""
    left = "; ".join(f"{text(row.name)}, {text(row.left)}" for row in summary.rows if row.left)
    if left:
        yield f"Left the rounds before their end: {left}."


def _stopping(settings: Settings) -> str:
    if settings.rounds is not None:
        return f"{count(settings.rounds, 'round')}, a number fixed beforehand"
    return f"as many rounds as the claim needed, within a budget of {settings.budget_s:g} s of interleaved samples"


def _on_fewer(summary: Summary) -> str:
    """Which cases it timed, and how often, where that is not all of them in every launch."""
    planned = summary.record.confirmation
    if planned is None or summary.confirmation is None:
        return ""
    fewer = f"{summary.confirmation.cases} of the " if summary.confirmed_on_fewer else ""
    alone = of_launches(planned)
    return f", of {fewer or 'all '}{count(summary.cases, 'case')}{alone}" if fewer or alone else ""


def _declaration(summary: Summary) -> str:
    if summary.declaration is None:
        return "none; the claim was stated when the run was started, and no plan with a hash of its own was written"
    return text(summary.declaration)


def _cases(record: RunRecord) -> str:
    masks = sum(case.mask is not None for case in record.cases)
    subtypes = sum(case.subtype is not None for case in record.cases)
    demo = "; **made-up volumes of the demo, and no patients**" if record.data.demo else ""
    return f"{len(record.cases)} of the split `{record.data.split}`, {masks} with a mask, {subtypes} with a class{demo}"


def _known(value: str) -> str:
    return text(value) if value else NOT_STATED
