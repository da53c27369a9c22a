"""Spreads cases over the actors of a cluster; lines and masks are written here, each case's once."""

import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.cluster.actors import Actors, Answer, Lost
from bench.cluster.assignment import Assignment
from bench.cluster.host import Raised
from bench.errors import BackendLostError, InputError, StorageError
from bench.predict.labels import header_of, write_labels
from bench.predict.nodes.openings import EVERY_S, Openings
from bench.predict.nodes.predictor import Predicted
from bench.predict.nodes.transport import Outcome, Sender, SentCase, shown
from bench.predict.runner import NodeRow, Work
from bench.worker.lines import OK
from bench.worker.messages import BatchCase, Opened


class Spread:
    """Predicts cases on nodes; a `Runner`. `start` gives the actors, which are started where there is a case to run."""

    def __init__(self, work: Work, start: Callable[[], AbstractContextManager[Actors]]) -> None:
        self.opened: Opened | None = None
        self.peak_memory_bytes: int | None = None
        self.wall_s = self.forward_s = 0.0
        self.nodes: Sequence[NodeRow] = ()
        self._work = work
        self._start = start
        self._journal = work.journal
        self._progress = work.progress
        self._sender = Sender()
        self._numbers = itertools.count()  # of orders
        self._cases: Sequence[BatchCase] = ()
        self._reason = ""  # of the last actor that was lost
        self._orders: dict[Hashable, dict[str, tuple[int, Any]]] = {}  # tasks and headers by label

    @property
    def worker_s(self) -> float:
        """As of `Runner`."""
        return sum(row.seconds for row in self.nodes)

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase]) -> None:
        """As of `Runner`; a source that cannot be opened on the nodes is refused before the first case."""
        self._cases = (*fresh, *failed)
        if not self._cases:
            return
        with self._start() as actors:
            device = self._work.opening.open.target.device.partition(":")[0]
            self.nodes = [NodeRow(place.node.name, device, place.cores) for place in actors.places]
            openings = Openings(self._work, actors, self.nodes)
            openings.run(self._sender, self._cases)
            self.opened, begun = openings.opened, time.monotonic()
            try:
                self._predict(actors, openings.seen)
            finally:
                self.wall_s = time.monotonic() - begun

    def _predict(self, actors: Actors, seen: Mapping[int, Sequence[bool]]) -> None:
        self._actors, self._seen = actors, seen
        self._assignment = Assignment(len(self._cases), self._work.read_ahead + 1)
        for actor in seen:
            self._assignment.join(actor, self.nodes[actor].node)
        while not self._assignment.finished:
            if not self._assignment.actors:
                raise BackendLostError(f"{self._name} failed: no node is left, the last one was lost: {self._reason}")
            for actor in self._assignment.actors:
                self._fill(actor)
            for event in actors.wait(EVERY_S):
                if isinstance(event, Lost):
                    self._lose(event.actor, event.reason)
                elif isinstance(event.value, Raised):
                    actors.drop(event.actor)
                    self._lose(event.actor, event.value.reason)
                else:
                    self._take(event)

    def _fill(self, actor: int) -> None:
        """Give an actor as many orders as it should have."""
        while order := self._assignment.next_order(actor):
            sent, headers = list[SentCase](), dict[str, tuple[int, Any]]()
            number = next(self._numbers)
            for task in order:
                case, label = self._cases[task], f"{task}-{number}"
                try:
                    headers[label] = task, header_of(case, self._work.opening.task.channels)
                    sent.append(self._sender.sent(label, case, self._seen[actor][task]))
                except InputError as error:
                    headers.pop(label, None)
                    self._assignment.end(actor, task)
                    self._fail(case, str(error))
            if sent:
                self._orders[actor, number] = headers
                self._actors.call(actor, (actor, number), "predict", sent)

    def _take(self, event: Answer) -> None:
        """Write what became of an order's cases."""
        predicted: Predicted = event.value
        headers, row = self._orders.pop(event.key), self.nodes[event.actor]
        row.seconds += predicted.seconds
        self.peak_memory_bytes = max(predicted.peak_memory_bytes or 0, self.peak_memory_bytes or 0) or None
        for outcome in predicted.outcomes:
            task, header = headers[outcome.label]
            if outcome.broke and self._assignment.broke(event.actor, task):
                continue
            if not outcome.broke:
                self._assignment.end(event.actor, task)
            self._put(self._cases[task], outcome, header)
            row.cases += outcome.line.status == OK

    def _put(self, case: BatchCase, outcome: Outcome, header: Any) -> None:
        """Write a case's mask, or why it has none; what is wrong with the header alone costs the case."""
        line = outcome.line
        if line.status != OK:
            self._fail(case, line.reason or "")
            return
        names = dict(self._work.opening.open.settings.names)
        try:
            write_labels(self._journal, case, outcome.mask(), header, names, line)
        except StorageError:
            raise
        except InputError as error:
            self._fail(case, str(error))
        self._follow()

    def _fail(self, case: BatchCase, reason: str) -> None:
        self._journal.fail(case, shown(reason, [Path(image.path) for image in case.images]))
        self._follow()

    def _follow(self) -> None:
        for line in self._journal.show(self._progress):
            self.forward_s += line.seconds.get("forward", 0.0)

    def _lose(self, actor: int, reason: str) -> None:
        """Have others do what the actor had in hand."""
        row = self.nodes[actor]
        row.lost = self._reason = reason
        self._progress.note(f"node {row.node} is lost: {reason}")
        for task in self._assignment.leave(actor):
            self._fail(self._cases[task], f"lost with its node for the second time: {reason}")

    @property
    def _name(self) -> str:
        return self._work.opening.open.name
