"""The report's accuracy, or agreement: scores, flipped cases, and what so many cases could have detected."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, nan

from reports import formatting
from reports.decision.accuracy import CLASS_AGREEMENT, MACRO_F1, WORST_DSC, Metric, MetricKey
from reports.decision.verdict import ABSENT, LOST, metric_state
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, SHOWN, count, listed
from reports.records.record import AGREEMENT
from reports.render.commonmark import bullets, fold, section, table, text, words
from reports.stats.power import ENOUGH_FOR_F1, LOST_SHARE
from reports.summary.summary import Row, Summary


def accuracy_section(summary: Summary) -> str:
    """The scores beside the baseline's, the flipped cases, and the noise floor."""
    rows = [row for row in summary.measured if row.accuracy.cases]
    if not rows:
        return ""
    if summary.record.settings.accuracy == AGREEMENT:
        return _agreement_section(summary, rows)
    metrics = rows[0].accuracy.metrics
    keys = summary.shown(metrics)
    head = ["variant", *(f"{text(key.label)}: value, delta [low]" for key in keys), "class flips", "voxels changed"]
    margins = margins_text({key: rows[0].margins[key] for key, metric in metrics.items() if metric.applicable})
    note = (
        "The value is the mean over cases against the ground truth (macro-F1: over classes); delta is the paired "
        "difference to the baseline, [low] its lower bound with one-sided 95 % confidence, which must not lie below "
        f"minus the margin ({margins}). Flips and changed voxels count against the baseline's own output."
    )
    body = table(head, [_accuracy_row(row, keys) for row in rows])
    rest = folded_scores(metrics, keys, rows, _marked_cell)
    absent = _absent_note(metrics, _NO_TRUTH_OR_PREDICTION)
    return section("Accuracy", body, rest, note, absent, *_flips_and_tests(summary, rows), _noise_floor(summary))


def _agreement_section(summary: Summary, rows: list[Row]) -> str:
    """The scores to the baseline's masks, the cases of another class, and the noise floor."""
    metrics, margins = rows[0].accuracy.metrics, rows[0].margins
    keys = summary.shown(key for key in metrics if key != CLASS_AGREEMENT)
    ends = {WORST_DSC: "case"}
    head = ["variant", *(f"{text(key.label)} [{ends.get(key.kind, 'low')}]" for key in keys)]
    body = [
        [
            text(row.name + row.of_cases),
            *(_agreement_cell(row, key) for key in keys),
            _flips_cell(row),
            _changed_cell(row),
        ]
        for row in rows
    ]
    required = {key: 1 - margins[key] for key, metric in metrics.items() if metric.applicable and key.structure}
    classes = (
        " A class flip is a case whose class is not the baseline's; [high] is the upper bound of their share, exact by "
        f"Clopper and Pearson, which must not pass {formatting.plain_percent(100 * margins[CLASS_AGREEMENT])}."
    )
    note = (
        "The scores are those between a variant's mask and the baseline's own, 1 where they are equal: the mean over "
        "the cases, [low] its lower bound with one-sided 95 % confidence, and the worst DSC of all cases, an observed "
        "minimum that bounds no further case. Bounds and worst cases must reach what is required "
        f"({margins_text(required)}).{classes * metrics[CLASS_AGREEMENT].applicable}"
    )
    absent = _absent_note(metrics, "A structure counts nothing in a case where neither mask holds it")
    return section(
        "Agreement with the baseline",
        table([*head, "class flips [high]", "voxels changed"], body),
        folded_scores(metrics, keys, rows, _marked_agreement),
        note,
        absent,
        *_flips_and_tests(summary, rows),
        _noise_floor(summary),
    )


def _agreement_cell(row: Row, key: MetricKey) -> str:
    metric = row.accuracy.metric(key)
    if not metric.applicable:
        return NOT_APPLICABLE
    if not metric.cases:
        return ABSENT if metric.absent else NOT_MEASURED
    if row.is_baseline:
        return "reference"
    end = "" if isfinite(metric.delta.low) else NOT_MEASURED
    if key.kind == WORST_DSC:
        end = "every case" if metric.value == 1 else text(metric.worst_case)
    return f"{formatting.agreement(metric.value)} [{end or formatting.agreement(metric.baseline + metric.delta.low)}]"


def _marked_agreement(row: Row, key: MetricKey) -> str:
    """A score among many: bold where it is lost."""
    cell = _agreement_cell(row, key)
    lost = not row.is_baseline and metric_state(key, row.accuracy.metric(key), row.margins[key]) == LOST
    return f"**{cell}**" if lost else cell


def _marked_cell(row: Row, key: MetricKey) -> str:
    """A score among many: bold where it is lost."""
    metric = row.accuracy.metric(key)
    cell = _metric_cell(metric, row.is_baseline)
    lost = not row.is_baseline and metric_state(key, metric, row.margins[key]) == LOST
    return f"**{cell}**" if lost else cell


def margins_text(margins: Mapping[MetricKey, float]) -> str:
    """``whole-pancreas DSC 0.005, macro-F1 0.02``; of many structures those of each kind, and what differs from it."""
    if sum(key.structure is not None for key in margins) <= SHOWN:
        return ", ".join(f"{text(key.label)} {margin:g}" for key, margin in margins.items())
    parts, own = [], []
    for kind in dict.fromkeys(key.kind for key in margins):
        of_kind = {key: margin for key, margin in margins.items() if key.kind == kind}
        (usual, _), *_ = Counter(of_kind.values()).most_common()
        parts.append(f"{kind.upper() if len(of_kind) > 1 else next(iter(of_kind)).label} {usual:g}")
        own += [f"{text(key.label)} {margin:g}" for key, margin in of_kind.items() if margin != usual]
    return ", ".join(parts) + (f"; but {listed(own)}" if own else "")


def folded_scores(
    every: Iterable[MetricKey],
    shown: Sequence[MetricKey],
    rows: Sequence[Row],
    cell: Callable[[Row, MetricKey], str],
) -> str:
    """All scores of structures, a row each, where the table above shows some of them; empty where it shows all."""
    keys = [key for key in every if key.structure is not None]
    if len([key for key in shown if key.structure is not None]) == len(keys):
        return ""
    body = [[text(key.label), *(cell(row, key) for row in rows)] for key in keys]
    title = f"All {len(keys)} scores; above are the {SHOWN} nearest to a loss"
    return fold(title, table(["score", *(text(row.name + row.of_cases) for row in rows)], body))


_NO_TRUTH_OR_PREDICTION = (
    "A structure counts nothing in a case whose truth is without it, as are the variant's prediction and the baseline's"
)


def _absent_note(of_baseline: Mapping[MetricKey, Metric], intro: str) -> str:
    """What was left out of the scores; a candidate has fewer such cases where it predicts what is not there."""
    absent = {key.structure: metric.absent for key, metric in of_baseline.items() if key.structure and metric.absent}
    if not absent:
        return ""
    most = sorted(absent.items(), key=lambda item: -item[1])
    names = listed([f"{text(name)} in up to {count(number, 'case')}" for name, number in most])
    return f"{intro}: {names}."


def _accuracy_row(row: Row, keys: Iterable[MetricKey]) -> list[str]:
    metrics: Iterable[Metric] = (row.accuracy.metric(key) for key in keys)
    cells = (_metric_cell(metric, row.is_baseline) for metric in metrics)
    return [text(row.name + row.of_cases), *cells, _flips_cell(row), _changed_cell(row)]


def _flips_cell(row: Row) -> str:
    metric = row.accuracy.metric(row.accuracy.class_key)
    if not metric.applicable:
        return NOT_APPLICABLE
    if row.is_baseline:
        return "reference"
    bound = -100 * metric.delta.low if row.accuracy.shown_by == AGREEMENT else nan
    high = f" [{formatting.at_most(bound)}]" if isfinite(bound) else ""
    return f"{len(row.accuracy.flipped)} of {row.accuracy.cases}{high}"


def _changed_cell(row: Row) -> str:
    return "reference" if row.is_baseline else formatting.share(row.accuracy.voxel_disagreement)


def _flips_and_tests(summary: Summary, rows: list[Row]) -> tuple[str, str, str]:
    names = summary.record.task.class_names
    by_truth = summary.record.settings.accuracy != AGREEMENT
    flips = [
        [
            text(row.name),
            text(flip.case),
            *([_class_name(names, flip.truth)] if by_truth else []),
            *(_class_name(names, subtype) for subtype in (flip.baseline, flip.candidate)),
        ]
        for row in rows
        for flip in row.accuracy.flips
    ]
    tested = [(text(row.name), row.accuracy.mcnemar) for row in rows if row.accuracy.flips]
    tests = bullets(
        f"{name}: {count(test.lost, 'case')} right by the baseline alone, {test.gained} by {name} alone "
        f"(McNemar's exact test, p = {test.p:.2g})."
        for name, test in tested
        if isfinite(test.p)
    )
    head = ["variant", "flipped case", *(["truth"] if by_truth else []), "baseline", "variant's class"]
    checked = bullets(
        f"{text(row.name)}: in {row.checked_classes} of {count(row.accuracy.cases, 'case')} lower precision left the "
        "class uncertain, and it was computed again in FP32."
        for row in rows
        if row.checked_classes
    )
    return words(head, flips) if flips else "", tests, checked


def _class_name(names: Sequence[str], subtype: int | None) -> str:
    return "unknown" if subtype is None else text(dict(enumerate(names)).get(subtype, subtype))


def detectable_section(summary: Summary) -> str:
    """The smallest losses that so many cases would have shown; by agreement the bounds themselves say it."""
    if summary.record.settings.accuracy == AGREEMENT:
        return ""
    rows = [row for row in summary.measured if row.accuracy.cases and not row.is_baseline]
    scored = rows[0].accuracy.metrics if rows else {}
    keys = [key for key in scored if any(isfinite(row.accuracy.metric(key).detectable) for row in rows)]
    if not keys:
        return ""
    shown = summary.shown(keys)
    head = ["variant", "cases", *(f"{text(key.label)}{', share of cases' * (key == MACRO_F1)}" for key in shown)]
    cells = [
        [
            text(row.name),
            str(row.accuracy.cases),
            *(_detectable_cell(row, key) for key in shown),
        ]
        for row in rows
    ]
    rest = folded_scores(keys, shown, rows, _detectable_cell)
    fewer = any(_rests_on(row, key) for row in rows for key in keys)
    margins = margins_text({key: rows[0].margins[key] for key in keys})
    note = (
        "The smallest loss that so many cases would have shown with a power of 80 %: of a mean score by the spread of "
        "its paired differences, of macro-F1 as the share of cases whose class is lost. A loss below it may be there "
        "unseen. *No spread*: all cases differ from the baseline by the same, most often by nothing. "
        f"{'Where a number of cases stands behind a loss, the score is of so many alone. ' * fewer}"
        f"The margins are {margins}. A macro-F1 counts as kept from {ENOUGH_FOR_F1} cases, which show a share "
        f"of {formatting.plain_percent(100 * LOST_SHARE)}."
    )
    return section("What these cases could have detected", table(head, cells), rest, note)


def _detectable_cell(row: Row, key: MetricKey) -> str:
    return _detectable(key, row.accuracy.metric(key)) + _rests_on(row, key)


def _rests_on(row: Row, key: MetricKey) -> str:
    """How many cases a score is of, where that is some of the row's; the others hold nothing that it could be of."""
    cases = row.accuracy.metric(key).cases
    return f" ({count(cases, 'case')})" if 0 < cases < row.accuracy.cases else ""


def _detectable(key: MetricKey, metric: Metric) -> str:
    if not metric.applicable:
        return NOT_APPLICABLE
    if not isfinite(metric.detectable):
        return NOT_MEASURED
    if key == MACRO_F1:
        return formatting.percent(100 * metric.detectable)
    if not metric.detectable:
        return "no spread"
    return f"{metric.detectable:.4f}" if metric.detectable >= 5e-5 else f"{metric.detectable:.0e}"


def _metric_cell(metric: Metric, is_baseline: bool) -> str:
    if not metric.applicable:
        return NOT_APPLICABLE
    if not metric.cases:
        return ABSENT if metric.absent else NOT_MEASURED
    if is_baseline:
        return formatting.score(metric.value)
    low = f" [{formatting.least_change(metric.delta.low)}]" if isfinite(metric.delta.low) else ""
    return f"{formatting.score(metric.value)}, {formatting.change(metric.delta.estimate)}{low}"


def _noise_floor(summary: Summary) -> str:
    voxels = summary.noise.get("voxels", 0)
    if not voxels:
        return "Noise floor (the baseline against itself): not measured."
    changed = formatting.share(summary.noise.get("differing_voxels", 0) / voxels)
    flips = f"class flips {NOT_APPLICABLE}"
    if summary.record.classifies:
        flips = count(summary.noise.get("class_flips", 0), "class flip")
    return f"Noise floor (the baseline against its own repetition): {changed} of the voxels changed, {flips}."
