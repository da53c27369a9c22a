"""One variant against the baseline, by time and accuracy."""

from dataclasses import dataclass

from reports.decision.accuracy import Accuracy, compare_accuracy
from reports.decision.speed import Speed, case_ns, forward_ns, pairs, speed
from reports.records.record import INTERLEAVED, VariantRecord
from reports.records.store import Run


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline by its interleaved samples, in both scopes, and its accuracy."""

    case: Speed
    forward: Speed
    accuracy: Accuracy


def compare(run: Run, name: str) -> Comparison:
    """Compare variant `name` with the run's baseline by its interleaved samples and its scores."""
    paired = pairs(run, name, INTERLEAVED)
    return Comparison(
        case=speed(paired, case_ns), forward=speed(paired, forward_ns), accuracy=compare_accuracy(run, name)
    )


def candidates(run: Run) -> tuple[VariantRecord, ...]:
    """The variants other than the baseline and the peers that run, or ran, to the end."""
    others = {run.record.baseline, *run.record.peers}
    return tuple(b for b in run.variants if b.name not in others and b.counts)
