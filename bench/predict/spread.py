"""Spreads cases over the actors of a cluster; lines and masks are written here, each case's once."""

import hashlib
import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cluster.actors import Actors, Answer, Event, Lost
from bench.cluster.assignment import Assignment
from bench.cluster.host import Raised
from bench.data.cases import refuse_other_channels
from bench.data.layouts import CaseFiles
from bench.data.write import write_mask
from bench.errors import BackendLostError, InputError, StorageError
from bench.package.document import content_of
from bench.predict import predictor
from bench.predict.predictor import Predicted
from bench.predict.runner import NodeRow, Work
from bench.predict.transport import Outcome, Sender, SentCase, shown
from bench.worker.lines import FAILED, OK, Line, append
from bench.worker.messages import BatchCase, Opened

_EVERY_S = 1.0  # seconds that are waited for an event at most, so that an interrupt is heard
_MADE, _OPENED, _SEEN = "made", "opened", "seen"  # what is called before the orders, which are numbers


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

    @property
    def worker_s(self) -> float:
        """As of `Runner`."""
        return sum(row.seconds for row in self.nodes)

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase], faults: Sequence[Line] = ()) -> None:
        """As of `Runner`; a source that cannot be opened on the nodes is refused before the first case."""
        self._cases = (*fresh, *failed)
        self._progress.start("predicting", len(self._cases) + len(faults))
        for line in faults:
            self._journal.add(line)
        self._follow()
        if not self._cases:
            return
        with self._start() as actors:
            self._actors = actors
            self.nodes = [
                NodeRow(place.node.name, self._work.opening.open.target.device.partition(":")[0], place.cores)
                for place in actors.places
            ]
            self._assignment = Assignment(len(self._cases), self._work.read_ahead + 1)
            self._seen: dict[int, tuple[bool, ...]] = {}  # by actor, of each case
            self._orders: dict[Hashable, dict[str, tuple[int, Any]]] = {}  # by actor: task and header by label
            self._open()
            begun = time.monotonic()
            try:
                self._predict()
            finally:
                self.wall_s = time.monotonic() - begun

    def _open(self) -> None:
        """Have every actor open the source, and say which files it sees.

        Raises:
            InputError: the source is not on a node, or no actor can open it.
        """
        work, salt = self._work, self._sender.salt
        source, device = work.source.sent(), work.opening.open.target.device.partition(":")[0]
        sources = [source.on(device, row.cores) for row in self.nodes]
        opening = set(range(len(sources)))
        for actor in opening:
            self._actors.make(actor, _MADE, predictor.FACTORY, salt, work.read_ahead, work.timeout_s)
            self._actors.call(actor, _OPENED, "open", sources[actor], dict(work.opening.identity))
        places = self._actors.share([self._sender.places(case) for case in self._cases])
        package: Any = None
        while opening:
            for event in self._actors.wait(_EVERY_S):
                if isinstance(event, Lost) or isinstance(event.value, Raised):
                    self._leave_out(event)
                    opening.discard(event.actor)
                elif event.key == _OPENED and event.value is None:
                    self._refuse_unsent(event.actor)
                    package = package or self._actors.share(content_of(work.source.path))
                    self._actors.call(event.actor, _OPENED, "receive", sources[event.actor], package)
                elif event.key == _OPENED:
                    self.opened = self.opened or event.value
                    self._actors.call(event.actor, _SEEN, "sees", places)
                elif event.key == _SEEN:
                    self._seen[event.actor] = event.value
                    self._assignment.join(event.actor, self.nodes[event.actor].node)
                    opening.discard(event.actor)
        self._note_bytes()

    def _predict(self) -> None:
        while not self._assignment.finished:
            if not self._assignment.actors:
                raise BackendLostError(f"{self._name} failed: no node is left, the last one was lost: {self._reason}")
            for actor in self._assignment.actors:
                self._fill(actor)
            for event in self._actors.wait(_EVERY_S):
                if isinstance(event, Lost):
                    self._lose(event.actor, event.reason)
                elif isinstance(event.value, Raised):
                    self._actors.drop(event.actor)
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
                    headers[label] = task, self._header(case)
                    sent.append(self._sender.sent(label, case, self._seen[actor][task]))
                except InputError as error:
                    headers.pop(label, None)
                    self._assignment.end(actor, task)
                    self._fail(case, str(error))
            if sent:
                self._orders[actor, number] = headers
                self._actors.call(actor, (actor, number), "predict", sent)

    def _header(self, case: BatchCase) -> Any:
        """The image of the first channel without its voxels, on which the mask will lie."""
        task, paths = self._work.opening.task, tuple(Path(image.path) for image in case.images)
        files = CaseFiles(case.name, paths, None, None)
        return refuse_other_channels(files, len(task.channels), task.channels)[0]

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
        mask = self._journal.folder / case.mask

        def write_line(content: bytes) -> None:
            written = replace(
                line, case=case.name, images=case.images, mask=case.mask,
                mask_sha256=hashlib.sha256(content).hexdigest(), written_unix_s=round(time.time(), 3),
            )  # fmt: skip
            append(self._journal.path, written.encoded())

        try:
            write_mask(mask, outcome.mask(), header, dict(self._work.opening.open.settings.names), write_line)
        except StorageError:
            raise
        except InputError as error:
            self._fail(case, str(error))
        self._follow()

    def _fail(self, case: BatchCase, reason: str) -> None:
        reason = shown(reason, [Path(image.path) for image in case.images])
        self._journal.add(Line(case=case.name, images=case.images, status=FAILED, reason=" ".join(reason.split())))
        self._follow()

    def _follow(self) -> None:
        for line in self._journal.follow():
            self._progress.advance(line.case)
            if line.status == FAILED:
                self._progress.note(f"{line.case} failed: {line.reason}")
            else:
                self.forward_s += line.seconds.get("forward", 0.0)

    def _lose(self, actor: int, reason: str) -> None:
        """Have others do what the actor had in hand."""
        self._say_lost(actor, reason)
        for task in self._assignment.leave(actor):
            self._fail(self._cases[task], f"lost with its node for the second time: {reason}")

    def _leave_out(self, event: Event) -> None:
        """Do without an actor that cannot open the source.

        Raises:
            InputError, BackendLostError: it was the last one.
        """
        refused = isinstance(event, Answer) and event.value.kind != BackendLostError.__name__
        reason = event.reason if isinstance(event, Lost) else event.value.reason
        self._actors.drop(event.actor)
        self._say_lost(event.actor, reason)
        if all(row.lost is not None for row in self.nodes):
            kind = InputError if refused else BackendLostError
            raise kind(f"no node can open {self._name}; {self.nodes[event.actor].node}: {reason}")

    def _say_lost(self, actor: int, reason: str) -> None:
        row = self.nodes[actor]
        row.lost = self._reason = reason
        self._progress.note(f"node {row.node} is left out: {reason}")

    def _refuse_unsent(self, actor: int) -> None:
        source = self._work.source
        if not source.is_package:
            raise InputError(
                f"{source.path}: is not on node {self.nodes[actor].node}, or another one is; put it on storage that "
                "all nodes share, or export a package, which is sent (bench export)"
            )

    def _note_bytes(self) -> None:
        """Say which nodes do not see the images."""
        for name in dict.fromkeys(row.node for row in self.nodes):
            actor = next((number for number in self._seen if self.nodes[number].node == name), None)
            unseen = 0 if actor is None else self._seen[actor].count(False)
            if unseen:
                self._progress.note(f"node {name} does not see the files of {unseen} cases, which are sent to it")

    @property
    def _name(self) -> str:
        return self._work.opening.open.name
