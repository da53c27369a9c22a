"""The race of a run: variants leave its rounds once nothing more of them would change its answer."""

from bench.progress import Progress
from bench.schedule.interleave import Interleaver
from bench.schedule.scoring import score_predictions
from reports.decision.racing import accuracy_states, is_settled, leaving, level_after, level_early, looks
from reports.decision.verdict import Claim
from reports.records.record import RunRecord
from reports.records.store import Run


class Race:
    """Looks at the samples within a group's first round and after each round, and lets variants leave.

    What a look found is saved with the variant, so that a resumed run goes on without it. In a run that is no race
    nothing is looked at.
    """

    def __init__(self, record: RunRecord, names: tuple[str, ...], interleaver: Interleaver, progress: Progress) -> None:
        self._record, self._names = record, names
        self._claim = Claim.of(record.settings)
        self._interleaver, self._progress = interleaver, progress
        self._early = looks(len(record.cases))
        self._rounds = 0
        self._accuracy: dict[str, tuple[str, str]] = {}

    def look_early(self, cases: int) -> None:
        """Look within the first round, after so many of its `cases`, where it is worth it."""
        if self._record.settings.race and cases in self._early:
            self._look(level_early(len(self._record.cases)))

    def look(self) -> None:
        """Look at complete rounds; after the first one the accuracy is known."""
        if self._record.settings.race:
            score_predictions(self._record, self._interleaver.store, self._progress)
            self._rounds += 1
            self._accuracy = self._accuracy or accuracy_states(self._run, self._claim)
            self._look(level_after(self._rounds))

    @property
    def is_settled(self) -> bool:
        """Whether the confirmation can begin; peers are compared with the winner, so with them it cannot yet."""
        if not self._record.settings.race or set(self._names) & set(self._record.peers):
            return False
        return is_settled(self._run, self._claim)

    @property
    def _run(self) -> Run:
        return self._interleaver.store.run(self._record, self._names)

    def _look(self, level: float) -> None:
        for name, reason in leaving(self._run, self._claim, level, self._accuracy).items():
            self._interleaver.leave(name, reason)
