"""The race of a run: variants leave its rounds once nothing more of them would change its answer."""

from bench.progress import Progress
from bench.schedule.interleave import Interleaver
from bench.schedule.scoring import score_predictions
from reports.decision.comparison import candidates
from reports.decision.outcome import WIDEST
from reports.decision.racing import (
    accuracy_states,
    behind,
    is_settled,
    known_peers,
    leaving,
    level_after,
    level_early,
    looks,
)
from reports.decision.verdict import Claim
from reports.formatting import listed
from reports.records.record import INTERLEAVED, RunRecord, VariantRecord
from reports.records.store import Run


class Race:
    """Looks at the samples within a group's first round and after each round, and lets variants leave.

    Reference pipelines leave only once the group's share of the budget is spent and their time is known.

    What a look found is saved with the variant, so that a resumed run goes on without it, and no look is made a second
    time: it would spend its error again. Nobody knows whether that after the last round which an interrupted run began
    was made; in its place is the one that follows, which may spend less. Within the first round, variants that others
    are faster than wait, until the accuracy of these is known: most will then leave. In a run that is no race nothing
    is looked at.
    """

    def __init__(
        self, record: RunRecord, names: tuple[str, ...], budget_s: float, interleaver: Interleaver, progress: Progress
    ) -> None:
        self._record, self._names, self._budget_s = record, names, budget_s
        self._claim = Claim.of(record.settings)
        self._interleaver, self._progress = interleaver, progress
        self._early = set(looks(len(record.cases)))
        self._early_before, self._rounds_before = self._had()
        self._looks = 0
        self._accuracy: dict[str, tuple[str, str]] = {}
        self._known = 0  # of these, when variants waited last

    def look_early(self, cases: int) -> None:
        """Look within the first round, after so many of its `cases`, where it is worth it; once at each number."""
        if self._record.settings.race and cases in self._early:
            self._early.discard(cases)
            if cases > self._early_before:
                self._look(level_early(len(self._record.cases)))
            self._wait()

    def look(self) -> None:
        """Look at complete rounds; the accuracy of those that have had the first one is known."""
        if not self._record.settings.race:
            return
        self._looks += 1
        if self._looks >= self._rounds_before:
            store, waiting = self._interleaver.store, self._interleaver.waiting
            score_predictions(self._record, store, self._progress, waiting)
            self._accuracy = accuracy_states(self._run, self._claim) | self._accuracy
            self._interleaver.accuracy = {name: state for name, (state, _) in self._accuracy.items()}
            self._look(level_after(self._spent))

    def resume(self) -> bool:
        """Whether variants wait that may still be the answer; those that seem fastest among them wait no more."""
        waiting, known = self._interleaver.waiting, len(self._accuracy)
        if not waiting:
            return False
        waiting.clear()
        if known > self._known:  # else the last pass has shown nothing, and to wait again would show no more
            self._wait()
        self._known = known
        return True

    def _wait(self) -> None:
        """Have those wait that others are faster than, among variants whose accuracy is not known yet."""
        can = [each.name for each in candidates(self._run) if not each.left and self._lacks(each)]
        slower = behind(self._run, self._claim, [name for name in can if name not in self._accuracy], self._spent)
        more = [name for name in slower if name not in self._interleaver.waiting]
        if more:
            self._interleaver.waiting.update(more)
            self._progress.note(f"waiting until the accuracy of what is faster is known: {listed(more)}")

    @property
    def _spent(self) -> int:
        """The looks at complete rounds whose error may have been spent, before the run was interrupted too."""
        return self._looks + (self._rounds_before > 0)

    def _lacks(self, variant: VariantRecord) -> bool:
        """Whether it has not had all cases; where it runs them in one call, there is none that it could wait with."""
        cases = self._record.cases
        return not variant.settings.one_call and bool(self._interleaver.store.lacks(variant.name, cases))

    def _had(self) -> tuple[int, int]:
        """How many cases of the group's first round, and how many rounds, an interrupted run began."""
        first, records = self._interleaver.first_round, self._interleaver.store.records
        rounds = {n: [s.round for s in records[n].samples if s.phase == INTERLEAVED] for n in self._names}
        others = [number for name in self._names if name != self._record.baseline for number in rounds[name]]
        return max(own.count(first) for own in rounds.values()), max(others, default=first - 1) + 1 - first

    @property
    def is_settled(self) -> bool:
        """Whether the confirmation can begin; peers are compared with the winner, so with them it cannot yet."""
        if not self._record.settings.race or set(self._names) & set(self._record.peers):
            return False
        return is_settled(self._run, self._claim)

    @property
    def _run(self) -> Run:
        return self._interleaver.store.run(self._record, self._names)

    def _is_spent(self) -> bool:
        """Whether the samples of this group's rounds have taken its share of the budget."""
        first = self._interleaver.first_round
        records = [self._interleaver.store.records[name] for name in self._names]
        taken = (s.case_ns for r in records for s in r.samples if s.phase == INTERLEAVED and s.round >= first)
        return 1e-9 * sum(taken) > self._budget_s

    def _look(self, level: float) -> None:
        if self._is_spent():
            for name in known_peers(self._run):
                self._interleaver.leave(name, f"its time is known to {100 * WIDEST:g} %, and the budget is spent")
        for name, reason in leaving(self._run, self._claim, level, self._accuracy).items():
            self._interleaver.leave(name, reason)
