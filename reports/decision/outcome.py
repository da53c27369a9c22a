"""The verdict of a whole run: which variant to confirm, when to stop, and what was proved."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reports.decision.comparison import Comparison, candidates, compare
from reports.decision.speed import PER_CASE, Speed, case_ns, interleaved_speed, pairs, speed
from reports.decision.verdict import (
    CONFIRMED,
    INCONCLUSIVE,
    KEPT,
    LOST,
    REFUTED,
    SHOWN_KEPT,
    Claim,
    Judgement,
    judge,
    judge_speed,
    judge_speeds,
)
from reports.formatting import at_least, command_to_resume, listed, percent, plain_percent
from reports.records.record import COMPLETE, CONFIRMATION, INTERLEAVED, SKIPPED, VariantRecord
from reports.records.store import RecordError, Run
from reports.stats.bootstrap import MIN_CASES

WIDEST = 0.02  # half of the distance between the bounds of a figure that is worth reporting: see `Speed.half_width`


@dataclass(frozen=True)
class Candidate:
    """A variant that runs, or ran, to the end: its interleaved samples against the baseline's and their verdict."""

    comparison: Comparison
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The run's verdict.

    Attributes:
        headline: the verdict as one sentence.
        reasons: what it rests on, the deciding part first.
        best: the fastest variant whose accuracy is not lost; None if there is none.
        subject: the variant that the verdict is about: the claim's, otherwise the best.
        confirmation: the subject's case time on fresh samples, taken after it was chosen; None without any.
        speed: the verdict on the subject's time alone.
    """

    verdict: str
    headline: str
    reasons: tuple[str, ...]
    best: str | None = None
    subject: str | None = None
    confirmation: Speed | None = None
    speed: str = INCONCLUSIVE


def judge_candidates(run: Run, claim: Claim) -> dict[str, Candidate]:
    """Every candidate of the run with its verdict, by the interleaved samples."""
    comparisons = {variant.name: compare(run, variant.name) for variant in candidates(run)}
    tests = judge_speeds(
        {name: comparison.case for name, comparison in comparisons.items()}, claim, interim_analyses(run)
    )
    return {
        name: Candidate(comparison, judge(tests[name], comparison.accuracy, claim))
        for name, comparison in comparisons.items()
    }


def interim_analyses(run: Run) -> dict[str, int | None]:
    """After how many rounds the run analysed whether to go on with each candidate; None where they were fixed.

    A round that was begun counts; one that left the rounds has had its own alone.
    """
    names = [variant.name for variant in candidates(run)]
    if run.record.settings.rounds is not None:
        return dict.fromkeys(names)
    whole = _rounds_begun(run, run.record.baseline)
    return {name: _rounds_begun(run, name) if run.variant(name).left else whole for name in names}


def _rounds_begun(run: Run, name: str) -> int:
    return 1 + max((sample.round for sample in run.variant(name).samples if sample.phase == INTERLEAVED), default=0)


def choose(run: Run, claim: Claim) -> str | None:
    """The variant to confirm on fresh samples, by the interleaved ones; None if all are refuted or none was timed."""
    judged = judge_candidates(run, claim)
    best = _best(run, judged)
    return best if best is not None and judged[best].judgement.verdict != REFUTED else None


def converged(run: Run, claim: Claim) -> bool:
    """Whether more rounds would change no speed verdict, and make no figure much better known.

    That is so once each variant still running is confirmed or refuted, with bounds at most `WIDEST` from their middle,
    and, where the run has fewer than `MIN_CASES` cases so that no number of rounds suffices, once each was timed. Of
    calls over all cases every round gives one more. What left the rounds gets no more of them.
    """
    planned = len(run.record.cases)
    speeds = {variant.name: interleaved_speed(run, variant.name) for variant in candidates(run)}
    tests = judge_speeds(speeds, claim, interim_analyses(run))
    return all(
        (tests[name].verdict != INCONCLUSIVE and s.half_width <= WIDEST)
        or (s.unit == PER_CASE and s.cases == planned < MIN_CASES)
        for name, s in speeds.items()
        if not run.variant(name).left
    )


def decide(run: Run, claim: Claim, judged: Mapping[str, Candidate]) -> Outcome:
    """The run's verdict under `claim`, from its candidates as `judge_candidates` gave them.

    Raises:
        RecordError: the claim names a variant that the run does not have, or the baseline.
    """
    best = run.record.confirmed or _best(run, judged)
    subject = _checked(run, claim.variant) or best
    lost = _lost(run, subject)
    if lost is not None:
        headline = _headline(run, INCONCLUSIVE, lost)
        return Outcome(verdict=INCONCLUSIVE, headline=headline, reasons=(lost,), best=best, subject=subject)
    if subject is None:
        return _without_subject(run, judged)
    confirmation = _confirmation(run, subject)
    judgement = _judge_subject(run, claim, subject, confirmation, judged)
    shown = confirmation or (judged[subject].comparison.case if subject in judged else Speed())
    return Outcome(
        verdict=judgement.verdict,
        headline=_headline(run, judgement.verdict, _sentence(subject, judgement, shown, claim)),
        reasons=judgement.reasons,
        best=best,
        subject=subject,
        confirmation=confirmation,
        speed=judgement.speed,
    )


def _confirmation(run: Run, subject: str) -> Speed | None:
    """The subject on fresh samples: of shards where all of them took some, and of nothing that failed meanwhile."""
    unlike = run.record.shards and run.record.confirmed != subject
    if unlike or not run.variant(subject).counts:
        return None
    fresh = speed(pairs(run, subject, CONFIRMATION), case_ns)
    return fresh if fresh.cases else None


def _best(run: Run, judged: Mapping[str, Candidate]) -> str | None:
    """The fastest whose accuracy is not lost; one that may still meet the claim, and one whose accuracy is kept, first.

    The first preference keeps a variant that is too slow, yet accurate, from standing in for one that is fast and
    undecided. What left the rounds comes last, since it was left with few samples.
    """
    able = {n: c for n, c in judged.items() if c.comparison.case.cases and c.judgement.accuracy != LOST}
    return max(able, key=lambda name: (not run.variant(name).left, *_rank(able[name])), default=None)


def _rank(candidate: Candidate) -> tuple[bool, bool, float]:
    judgement = candidate.judgement
    return judgement.speed != REFUTED, judgement.accuracy == KEPT, candidate.comparison.case.speedup.estimate


def _checked(run: Run, name: str | None) -> str | None:
    others = [b.name for b in run.variants if b.name not in (run.record.baseline, *run.record.peers)]
    if name is None or name in others:
        return name
    if name == run.record.baseline:
        raise RecordError(f"{name} is the baseline of this run; name one of {', '.join(others) or 'another run'}")
    if name in run.record.peers:
        raise RecordError(f"{name} is a peer and makes no claim; name one of {', '.join(others) or 'another run'}")
    raise RecordError(f"the run has no variant {name!r}; it has {', '.join(others) or 'none beside the baseline'}")


def _judge_subject(
    run: Run, claim: Claim, subject: str, confirmation: Speed | None, judged: Mapping[str, Candidate]
) -> Judgement:
    candidate = judged[subject]
    judgement = candidate.judgement
    if confirmation is not None:
        judgement = judge(judge_speed(confirmation, claim), candidate.comparison.accuracy, claim)
    chosen_by_run = claim.variant is None
    if judgement.verdict != REFUTED and run.record.status != COMPLETE:
        return _withheld(judgement, f"the run did not come to its end: {_resume(run)} finishes it")
    unlike = bool(run.record.shards) and run.record.confirmed != subject
    if unlike and chosen_by_run and not _all_refuted(judged):
        return _withheld(judgement, _unlike_confirmations(run, subject))
    if judgement.verdict == CONFIRMED and confirmation is None and chosen_by_run:
        return _withheld(judgement, _without_confirmation(run, subject))
    if judgement.verdict == REFUTED and chosen_by_run and run.record.status != COMPLETE and not _all_refuted(judged):
        return _withheld(judgement, f"the run did not come to its end, and others may do better: {_resume(run)}")
    return judgement


def _unlike_confirmations(run: Run, subject: str) -> str:
    """Which shard confirmed what, and what to do."""
    by_name: dict[str, list[str]] = {}
    for shard in run.record.shards:
        by_name.setdefault(shard.confirmed or "nothing", []).append(str(shard.number))
    confirmed = "; ".join(f"{name} on shard {', '.join(numbers)}" for name, numbers in by_name.items())
    return (
        f"the shards did not all confirm one variant on fresh samples ({confirmed}): run them again with `--backends "
        f"{subject}` alone, and merge those"
    )


def _without_confirmation(run: Run, subject: str) -> str:
    """Why a complete run has no fresh samples, and what to do; it cannot be resumed."""
    if run.record.confirmed == subject:
        return f"no pair of fresh samples of {subject} is left: measure again on a quieter machine"
    return f"{subject} was not confirmed on fresh samples, of which this run took none: run again with this claim"


def _without_subject(run: Run, judged: Mapping[str, Candidate]) -> Outcome:
    if judged and _all_refuted(judged):
        reasons = tuple(f"{name}: {c.judgement.reasons[0]}" for name, c in judged.items())
        headline = _headline(run, REFUTED, f"no variant meets the claim ({reasons[0]})")
        return Outcome(verdict=REFUTED, headline=headline, reasons=reasons)
    reason = "nothing was compared with the baseline"
    others = [variant for variant in run.variants if variant.name != run.record.baseline]
    claims = [variant for variant in others if variant.name not in run.record.peers]
    if not others:
        reason += ", as it ran alone: add a backend to --backends, a recipe or a --command"
    elif not claims:
        reason += ", as only peers ran beside it, which make no claim: add a backend to --backends"
    elif not any(variant.counts for variant in claims):
        reason += f": {listed([_what_became_of(variant) for variant in claims], '; ')}"
    elif run.record.status != COMPLETE:
        reason += f", as the run did not come to its end: {_resume(run)} finishes it"
    return Outcome(verdict=INCONCLUSIVE, headline=_headline(run, INCONCLUSIVE, reason), reasons=(reason,))


def _lost(run: Run, subject: str | None) -> str | None:
    """That the baseline or the subject was skipped or failed, so that its samples count nothing; else None."""
    baseline = run.variant(run.record.baseline)
    if not baseline.counts:
        return f"the baseline {_what_became_of(baseline)}; start a new run"
    own = None if subject is None else run.variant(subject)
    return None if own is None or own.counts else _what_became_of(own)


def _what_became_of(variant: VariantRecord) -> str:
    """Of one that was skipped or failed, with its remedy."""
    fix = f"; to mend it: {variant.fix}" if variant.fix else ""
    what = "was skipped" if variant.status == SKIPPED else "failed"
    return f"{variant.name} {what}: {variant.reason or 'no reason recorded'}{fix}"


def _headline(run: Run, verdict: str, sentence: str) -> str:
    """Names the baseline where it is another than usual."""
    baseline = f" (baseline: {run.record.baseline})" if run.record.baseline_chosen else ""
    return f"{verdict}: {sentence}{baseline}"


def _all_refuted(judged: Mapping[str, Candidate]) -> bool:
    return all(candidate.judgement.verdict == REFUTED for candidate in judged.values())


def _withheld(judgement: Judgement, reason: str) -> Judgement:
    return replace(judgement, verdict=INCONCLUSIVE, reasons=(reason, *judgement.reasons))


def _resume(run: Run) -> str:
    return f"`{command_to_resume(run.folder)}`"


def _sentence(subject: str, judgement: Judgement, shown: Speed, claim: Claim) -> str:
    if judgement.verdict == CONFIRMED:
        r = shown.reduction
        proved = f"{percent(r.estimate)} (at least {at_least(r.low)} with 95 % confidence)"
        return f"{subject} reduces the {shown.scope} by {proved}, {SHOWN_KEPT[claim.accuracy]}"
    if judgement.verdict == REFUTED and judgement.speed == REFUTED:
        required = plain_percent(claim.min_reduction_pct)
        return f"{subject} does not reduce the {shown.scope} by {required}: {judgement.reasons[0]}"
    return f"{subject}: {judgement.reasons[0]}"
