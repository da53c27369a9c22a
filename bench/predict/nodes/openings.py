"""Opens the source on every node before the first case is sent, and asks which files each node sees."""

from collections.abc import Sequence
from typing import Any

from bench.cluster.actors import Actors, Answer, Event, Lost
from bench.cluster.host import Raised
from bench.errors import BackendLostError, InputError
from bench.package.document import content_of
from bench.predict.nodes import predictor
from bench.predict.nodes.transport import Sender
from bench.predict.runner import NodeRow, Work
from bench.worker.messages import BatchCase, Opened

EVERY_S = 1.0  # seconds that are waited for an event at most, so that an interrupt is heard
_MADE, _OPENED, _SEEN = "made", "opened", "seen"  # calls


class Openings:
    """What became of it.

    Attributes:
        seen: of each actor that is ready, whether it sees the files of each case.
        opened: what the backend of the first that was ready reported.
    """

    def __init__(self, work: Work, actors: Actors, rows: Sequence[NodeRow]) -> None:
        self.seen: dict[int, tuple[bool, ...]] = {}
        self.opened: Opened | None = None
        self._work = work
        self._actors = actors
        self._rows = rows
        self._package: Any = None

    def run(self, sender: Sender, cases: Sequence[BatchCase]) -> None:
        """Open it, and leave out actors that cannot.

        Raises:
            InputError, BackendLostError: the source is not on a node and cannot be sent, or no actor can open it.
        """
        work, device = self._work, self._work.opening.open.target.device.partition(":")[0]
        sent, identity = work.source.sent(), dict(work.opening.identity)
        self._sources = [sent.on(device, row.cores) for row in self._rows]
        for actor, source in enumerate(self._sources):
            self._actors.make(actor, _MADE, predictor.FACTORY, sender.salt, work.read_ahead, work.timeout_s)
            self._actors.call(actor, _OPENED, "open", source, identity)
        places = self._actors.share([sender.places(case) for case in cases])
        opening = set(range(len(self._sources)))
        while opening:
            for event in self._actors.wait(EVERY_S):
                if isinstance(event, Lost) or isinstance(event.value, Raised):
                    self._leave_out(event)
                    opening.discard(event.actor)
                elif event.key == _OPENED and event.value is None:
                    self._send_package(event.actor)
                elif event.key == _OPENED:
                    self.opened = self.opened or event.value
                    self._actors.call(event.actor, _SEEN, "sees", places)
                elif event.key == _SEEN:
                    self.seen[event.actor] = event.value
                    opening.discard(event.actor)
        self._note_unseen()

    def _send_package(self, actor: int) -> None:
        source = self._work.source
        if not source.is_package:
            raise InputError(
                f"{source.path}: is not on node {self._rows[actor].node}, or another one is; put it on storage that "
                "all nodes share, or export a package, which is sent (bench export)"
            )
        if self._package is None:
            self._package = self._actors.share(content_of(source.path))
        self._actors.call(actor, _OPENED, "receive", self._sources[actor], self._package)

    def _leave_out(self, event: Event) -> None:
        refused = isinstance(event, Answer) and event.value.kind != BackendLostError.__name__
        reason = event.reason if isinstance(event, Lost) else event.value.reason
        self._actors.drop(event.actor)
        row = self._rows[event.actor]
        row.lost = reason
        self._work.progress.note(f"node {row.node} is left out: {reason}")
        if all(row.lost is not None for row in self._rows):
            kind = InputError if refused else BackendLostError
            raise kind(f"no node can open {self._work.opening.open.name}; {row.node}: {reason}")

    def _note_unseen(self) -> None:
        """Say to which nodes images are sent."""
        unseen = {self._rows[actor].node: seen.count(False) for actor, seen in self.seen.items()}
        for node, cases in unseen.items():
            if cases:
                self._work.progress.note(
                    f"node {node} does not see the files of {cases} of the cases; their voxels are sent there"
                )
