"""From the records of a run to its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite, nan

from reports.analysis.cases import worst_cases
from reports.analysis.diagnostics import diagnose
from reports.analysis.gpu import gpu_use
from reports.analysis.interference import assess_interference
from reports.analysis.latency import latency, spread, tile_fit
from reports.analysis.peers import peer_times
from reports.analysis.resources import resources
from reports.analysis.roi import roi_use
from reports.analysis.roofline import roofline
from reports.analysis.shards import shard_times
from reports.decision.accuracy import Accuracy, Metric, compare_accuracy, metric_keys, target
from reports.decision.comparison import Comparison, compare
from reports.decision.outcome import Candidate, Outcome, decide, judge_candidates
from reports.decision.speed import PER_CALL, PER_CASE, Speed, case_ns, pairs, speed
from reports.decision.verdict import CONFIRMED, REFUTED, Claim
from reports.formatting import command_to_resume
from reports.records.record import (
    AGREEMENT,
    CONFIRMATION,
    INTERLEAVED,
    OK,
    PENDING,
    SKIPPED,
    STAGES,
    RunRecord,
    Sample,
    VariantRecord,
)
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.stats.scores import median
from reports.summary.run_warnings import agreement_warning, lossy_baseline, run_warnings
from reports.summary.shard_warnings import shard_warnings
from reports.summary.summary import Requirement, Row, Summary


def summarise(run: Run, claim: Claim | None = None) -> Summary:
    """Derive all figures and the verdict from a run's records; `claim` defaults to the one it was started with.

    Raises:
        RecordError: the claim names a variant that the run does not have, or the baseline.
    """
    record = run.record
    claim = claim or Claim.of(record.settings)
    judged = judge_candidates(run, claim)
    outcome = decide(run, claim, judged)
    rows = tuple(_variant_row(run, variant, judged, claim) for variant in run.variants)
    baseline, diagnostics, interference = run.variant(record.baseline), diagnose(run), assess_interference(run, claim)
    cases_of = outcome.subject or _fastest(rows)
    shards = shard_times(run, cases_of, CONFIRMATION if outcome.confirmation else INTERLEAVED)
    rounds = Counter(case for sample in baseline.samples if sample.phase == INTERLEAVED for case in sample.subtypes)
    return Summary(
        verdict=outcome.verdict,
        headline=outcome.headline,
        reasons=outcome.reasons,
        claim=claim,
        best=outcome.best,
        subject=outcome.subject,
        confirmation=outcome.confirmation,
        cases=len(rounds),
        rounds=max(rounds.values(), default=0),
        rows=rows,
        requirements=(*_requirements(record, rows, cases_of), _time_requirement(rows, outcome, cases_of, claim)),
        noise=baseline.noise,
        missing_required=_missing_required(record, rows),
        warnings=(
            *run.notes,
            *agreement_warning(record),
            *record.data.remarks,
            *record.host.remarks,
            *lossy_baseline(record, rows),
            *shard_warnings(record, shards, cases_of),
            *run_warnings(rows, diagnostics, interference, outcome.verdict),
        ),
        interference=interference,
        diagnostics=diagnostics,
        peers=peer_times(run, outcome.subject),
        cases_of=cases_of,
        worst_cases=worst_cases(run, cases_of),
        shards=shards,
        run=run,
    )


def _fastest(rows: Sequence[Row]) -> str | None:
    """Of the candidates with scores, that of the largest speedup."""
    able = [row for row in rows if row.accuracy.cases and not (row.is_baseline or row.is_peer)]
    timed = [row for row in able if isfinite(row.case.speedup.estimate)]
    return max(timed, key=lambda row: row.case.speedup.estimate).name if timed else None


def _variant_row(run: Run, variant: VariantRecord, judged: Mapping[str, Candidate], claim: Claim) -> Row:
    is_baseline, is_peer = variant.name == run.record.baseline, variant.name in run.record.peers
    samples = _timed_samples(run, variant, is_baseline)
    judgement = judged[variant.name].judgement if variant.name in judged and samples else None
    comparison = _comparison(run, variant, samples, judged)
    stages = {stage: [s.stages_ns[stage] / 1e9 for s in samples if stage in s.stages_ns] for stage in STAGES}
    total = sum(s.case_ns for s in samples) / 1e9
    status, reason, fix = _variant_status(run, variant, bool(samples))
    return Row(
        name=variant.name,
        settings=variant.settings,
        status=status,
        reason=reason,
        fix=fix,
        log=variant.log,
        partial=variant.status == PENDING and status == OK and not variant.left,
        left=variant.left,
        is_baseline=is_baseline,
        is_peer=is_peer,
        verdict=judgement.verdict if judgement else None,
        reasons=judgement.reasons if judgement else (),
        test=judgement.test if judgement else None,
        latency=latency([s.case_ns / 1e9 for s in samples]),
        forward_latency=latency(stages["forward"]),
        spread=spread(samples),
        tile_fit=tile_fit(samples),
        case=comparison.case,
        forward=comparison.forward,
        build_s=variant.build_s,
        build_cached=variant.build_cached,
        peak_memory_bytes=variant.peak_memory_bytes,
        stages_s={stage: median(values) for stage, values in stages.items()},
        stages_share={stage: sum(values) / total if total else nan for stage, values in stages.items()},
        accuracy=comparison.accuracy,
        margins={key: claim.margin(key, metric.own_margin) for key, metric in comparison.accuracy.metrics.items()},
        evidence=variant.evidence,
        roofline=roofline(run.record, variant, samples),
        device_share=_device_share(samples),
        gpu=gpu_use(samples),
        resources=resources(variant, samples, run.variant(run.record.baseline)),
        roi=roi_use(samples, variant.scores, run.record.task),
        few_cases=_few_cases(run, variant, samples),
        built_beside=variant.built_beside,
        checked_classes=len({sample.case for sample in samples if sample.class_checked}),
    )


def _few_cases(run: Run, variant: VariantRecord, samples: Sequence[Sample]) -> int | None:
    timed = len({sample.case for sample in samples})
    return timed if 0 < timed < len(run.record.cases) and not variant.settings.one_call else None


def _comparison(
    run: Run, variant: VariantRecord, samples: Sequence[Sample], judged: Mapping[str, Candidate]
) -> Comparison:
    """The variant beside the baseline; the baseline beside itself."""
    if variant.name == run.record.baseline:
        calls = variant.settings.one_call
        cases = len(samples) if calls else len({sample.case for sample in samples})
        unit = PER_CALL if calls else PER_CASE
        launches = speed(zip(samples, samples, strict=True), case_ns).launches
        equal = Interval(1.0, 1.0, 1.0)
        itself = Speed(cases=cases, pairs=len(samples), speedup=equal, launches=launches, unit=unit)
        itself = itself if samples else Speed()
        return Comparison(case=itself, forward=itself, accuracy=compare_accuracy(run, variant.name))
    if not samples:
        return Comparison(case=Speed(), forward=Speed(), accuracy=Accuracy.none(run))
    return judged[variant.name].comparison if variant.name in judged else compare(run, variant.name)


def _device_share(samples: list[Sample]) -> float:
    forward = [(s.device_ns, s.stages_ns.get("forward", 0)) for s in samples]
    return median([device / host for device, host in forward if device is not None and host > 0])


def _timed_samples(run: Run, variant: VariantRecord, is_baseline: bool) -> list[Sample]:
    """The samples behind a row's figures: a candidate's only where the baseline's lies beside them."""
    if not variant.counts:
        return []
    if is_baseline:
        return [s for s in variant.samples if s.phase == INTERLEAVED]
    paired = [candidate for _, candidate in pairs(run, variant.name, INTERLEAVED)]
    if variant.settings.one_call or not run.variant(run.record.baseline).settings.one_call:
        return paired
    calls = {(sample.launch, sample.round) for sample in paired}  # of the baseline; the variant's are sums of its cases
    return [s for s in variant.samples if s.phase == INTERLEAVED and (s.launch, s.round) in calls]


def _variant_status(run: Run, variant: VariantRecord, measured: bool) -> tuple[str, str | None, str | None]:
    if variant.status != PENDING:
        return variant.status, variant.reason, variant.fix
    if measured:
        return OK, None, None
    return SKIPPED, "the run ended before this variant was measured", command_to_resume(run.folder)


def _missing_required(record: RunRecord, rows: Sequence[Row]) -> tuple[str, ...]:
    measured = {row.name for row in rows if row.status == OK}
    return tuple(name for name in record.settings.required if name not in measured)


def _requirements(record: RunRecord, rows: Sequence[Row], name: str | None) -> tuple[Requirement, ...]:
    """What variant `name` reaches of each score that the task has a target of.

    By agreement none, since the targets are of the truth.
    """
    if record.settings.accuracy == AGREEMENT:
        return ()
    task = record.task
    baseline = next((row for row in rows if row.is_baseline), None)
    best = next((row for row in rows if row.name == name), None)
    requirements = []
    for key in metric_keys(task):
        asked = target(task, key)
        if asked is None:
            continue
        of_baseline: Metric = baseline.accuracy.metric(key) if baseline else Metric()
        of_best: Metric = best.accuracy.metric(key) if best else Metric()
        requirements.append(
            Requirement(
                key=key,
                target=asked,
                baseline=of_baseline.value,
                best=of_best.value,
                met=of_best.value >= asked if isfinite(of_best.value) else None,
                applicable=of_baseline.applicable,
            )
        )
    return tuple(requirements)


def _time_requirement(rows: Sequence[Row], outcome: Outcome, name: str | None, claim: Claim) -> Requirement:
    best = next((row for row in rows if row.name == name), None)
    fastest = outcome.confirmation or (best.case if best else Speed())
    r, verdict = fastest.reduction, outcome.speed
    if outcome.subject is None and best is not None and best.test is not None:
        verdict = best.test.verdict
    return Requirement(
        key=None,
        target=claim.min_reduction_pct,
        baseline=0.0,
        best=r.estimate,
        met={CONFIRMED: True, REFUTED: False}.get(verdict),
        low=r.low,
        high=r.high,
    )
