"""`bench check`, and what other commands print of a verdict."""

from argparse import Namespace
from dataclasses import fields, replace

from bench.cli.exit_codes import BACKEND_LOST, DONE, INCONCLUSIVE, REFUTED
from bench.errors import InputError
from bench.plan.accuracy_claim import refuse_margins
from bench.schedule.run_directory import LATEST
from reports.decision.verdict import Claim
from reports.records.store import read_run
from reports.summary.summarise import summarise
from reports.summary.summary import Summary

_EXIT_OF_VERDICT = {"CONFIRMED": DONE, "REFUTED": REFUTED, "INCONCLUSIVE": INCONCLUSIVE}


def execute(options: Namespace) -> int:
    run = read_run(options.run or LATEST)
    stated = {each.name: value for each in fields(Claim) if (value := getattr(options, each.name)) is not None}
    accuracy = run.record.settings.accuracy
    if stated.get("accuracy", accuracy) != accuracy:
        raise InputError(
            f"{run.folder}: this run was judged by {accuracy}, and --accuracy asks for {stated['accuracy']}; measure "
            f"again with `bench run --accuracy {stated['accuracy']}`"
        )
    refuse_margins(accuracy, stated)
    claim = replace(Claim.of(run.record.settings), **stated)
    summary = summarise(run, claim)
    print_verdict(summary)
    return exit_code(summary)


def print_verdict(summary: Summary) -> None:
    """The headline, each reason that is not in it, and what a plan declared."""
    print(summary.headline)
    for reason in summary.reasons:
        if reason not in summary.headline:
            print(f"  {reason}")
    if summary.declaration is not None:
        print(f"  {summary.declaration}")
    for name in summary.missing_required:
        print(f"  required variant {name} was not measured")


def exit_code(summary: Summary) -> int:
    """Of a command that ends in a verdict."""
    lost = bool(summary.missing_required) or not summary.run.variant(summary.record.baseline).counts
    return BACKEND_LOST if lost else _EXIT_OF_VERDICT[summary.verdict]
