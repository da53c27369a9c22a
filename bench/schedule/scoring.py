"""The masks of a run's first round against the truth, or against the baseline's own."""

from collections.abc import Collection

from bench import accuracy
from bench.errors import BackendLostError, InputError
from bench.progress import Progress
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from reports.decision.verdict import SHOWN_BY
from reports.records.record import FAILED, INTERLEAVED, PENDING, RunRecord, Sample, Score, VariantRecord


def score_predictions(record: RunRecord, store: RunStore, progress: Progress, waiting: Collection[str] = ()) -> None:
    """Record the scores of every variant that still runs and whose cases do not all have them yet, but of `waiting`.

    Raises:
        BackendLostError: a mask of the baseline cannot be used.
    """
    names = [n for n in record.settings.variants if n not in waiting and _is_to_be_scored(store.records[n])]
    if not names:
        return
    progress.start(f"checking {SHOWN_BY[record.settings.accuracy]}", len(names))
    baseline = first_subtypes(store.records[record.baseline])
    for name in names:
        try:
            scores = _scores(record, store.records[name], baseline, store.directory)
        except InputError as error:  # of a reference pipeline that placed its mask otherwise
            store.update(name, status=FAILED, reason=str(error), log=store.log(name))
            progress.note(f"{name} failed: {error}")
            if name == record.baseline:
                raise BackendLostError(f"the baseline {name} failed: {error}") from None
        else:
            store.update(name, scores=scores)
        progress.advance(name)


def first_samples(variant: VariantRecord) -> list[Sample]:
    """The first of each case, whose masks are kept; what waited has some of them in a later round than others."""
    interleaved = sorted((s for s in variant.samples if s.phase == INTERLEAVED), key=lambda sample: sample.round)
    return list({sample.case: sample for sample in reversed(interleaved)}.values())


def first_subtypes(variant: VariantRecord) -> dict[str, int | None]:
    """Predicted classes by its first sample of each case; None where the network has no classification."""
    return {case: subtype for s in first_samples(variant) for case, subtype in s.subtypes.items()}


def _is_to_be_scored(variant: VariantRecord) -> bool:
    return variant.status == PENDING and {score.case for score in variant.scores} != first_subtypes(variant).keys()


def _scores(
    record: RunRecord, variant: VariantRecord, baseline: dict[str, int | None], directory: RunDirectory
) -> tuple[Score, ...]:
    subtypes, rois = first_subtypes(variant), {s.case: s.roi for s in first_samples(variant)}
    return tuple(
        accuracy.score(
            case,
            record.settings,
            record.task,
            record.data.mask_values,
            directory.prediction(variant.name, case),
            directory.prediction(record.baseline, case),
            subtypes[case.name],
            baseline[case.name],
            rois.get(case.name),
        )
        for case in record.cases
        if case.name in subtypes and case.name in baseline
    )
