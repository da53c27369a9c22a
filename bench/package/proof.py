"""What a run has shown of one of its variants, for whoever takes that variant elsewhere."""

import hashlib
from dataclasses import replace

from bench.errors import InputError
from reports.decision.outcome import judge_candidates
from reports.decision.verdict import KEPT, Claim
from reports.records.package import PackageRecord, Proof
from reports.records.store import RUN_FILE, Run
from reports.summary.summarise import summarise

REFERENCE = "reference"  # accuracy of the baseline, against which all others were held


def proof_of(run: Run, name: str, *, unproven: bool) -> Proof:
    """What the run says of this variant.

    Raises:
        InputError: its accuracy was not kept, and `unproven` does not say to go on.
    """
    record = run.record
    is_baseline = name == record.baseline
    claim = Claim.of(record.settings)
    summary = summarise(run, claim if is_baseline else replace(claim, variant=name))
    accuracy = REFERENCE if is_baseline else judge_candidates(run, claim)[name].judgement.accuracy
    proven = accuracy in (REFERENCE, KEPT)
    if not (proven or unproven):
        raise InputError(
            f"--variant {name}: its accuracy is {accuracy} in {run.folder}, not kept; choose another, or say "
            "--unproven and what is exported will say it too"
        )
    assert run.folder is not None, "a run that was read from its folder"
    return Proof(
        run=record.id,
        created=record.created,
        run_sha256=hashlib.sha256((run.folder / RUN_FILE).read_bytes()).hexdigest(),
        verdict="baseline" if is_baseline else summary.verdict,
        headline="the baseline, against which the others were held" if is_baseline else summary.headline,
        reasons=() if is_baseline else summary.reasons,
        baseline=record.baseline,
        accuracy=accuracy,
        shown_by=record.settings.accuracy,
        proven=proven,
        equal_cases=0,
    )


def unproven(record: PackageRecord) -> str | None:
    """What to say of a package whose accuracy was not kept; None of others."""
    if record.proof.proven:
        return None
    return f"UNPROVEN: the accuracy of {record.variant} was {record.proof.accuracy} in the run {record.proof.run}"
