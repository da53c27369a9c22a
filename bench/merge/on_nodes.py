"""`bench run --ray`: each node of a cluster runs a shard, with the baseline beside every sample, and all are merged."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.cluster.actors import Actors, Lost, RayActors
from bench.cluster.assignment import Assignment
from bench.cluster.connection import connected, ray
from bench.cluster.host import Raised
from bench.cluster.places import Place, nodes_of
from bench.errors import BackendLostError, InputError, InterruptedRunError
from bench.merge.runs import merge_runs
from bench.merge.shard_runner import FACTORY, unpack
from bench.package.export import refuse_place
from bench.plan.request import Request
from bench.progress import Progress
from bench.schedule.run_directory import RunDirectory
from bench.shard import Shard
from reports.records.record import COMPLETE
from reports.records.store import RUN_FILE, read_run

_EVERY_S = 1.0  # seconds that are waited for an event at most, so that an interrupt is heard


def run_on_nodes(request: Request, address: str, out: Path | None, progress: Progress) -> Path:
    """Have the nodes of the cluster at `address` run a shard each, join them into a run directory, and return that.

    Shards lie in ``OUT-shards`` beside it as they come in; those that are there already are not run again.

    Raises:
        InputError and its like: something cannot be used, or the nodes are too unlike for one run.
        BackendLostError: the baseline failed on a node, or no node is left.
        InterruptedRunError: it was stopped; the shards that are done are kept.
    """
    _refuse(request, address)
    out = out or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    refuse_place(out)
    with connected(address):
        places = _places(request, address)
        shards = Shards(out.with_name(f"{out.name}-shards"), len(places), progress)
        try:
            with _started(places) as actors:
                shards.run(request.whole_paths(), actors)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted; the shards that are done are in {shards.folder}. To finish the run: {request.command}"
            ) from None
    merge_runs([shards.place(number) for number in shards.numbers], out, request.command, progress)
    RunDirectory(out).point_latest()
    return out


def _refuse(request: Request, address: str) -> None:
    if request.shard is not None:
        raise InputError(f"--shard {request.shard}: with --ray each node has a shard of its own; leave one of both out")
    if request.rounds is None:
        raise InputError(
            f"--ray {address}: a shard that ends by what it alone has seen would bias what all show together; fix the "
            "number of rounds with --rounds N"
        )


def _places(request: Request, address: str) -> list[Place]:
    """A whole node each, since what else ran there would be timed too; with a GPU, where the run is on one."""
    on_gpu = request.device.startswith("cuda")
    nodes = [node for node in nodes_of(ray().nodes()) if node.cores and (node.gpus or not on_gpu)]
    if not nodes:
        raise InputError(f"--ray {address}: no node of the cluster offers a {'GPU' if on_gpu else 'core'}; start one")
    return [Place(node, node.cores, gpu=bool(node.gpus)) for node in nodes]


@contextmanager
def _started(places: Sequence[Place]) -> Iterator[Actors]:
    actors = RayActors(places)
    try:
        yield actors
    finally:
        actors.end()


class Shards:
    """The shards of a run in a folder, each in one of its own, ``1`` and so on.

    Attributes:
        numbers: of all shards.
    """

    def __init__(self, folder: Path, count: int, progress: Progress) -> None:
        self.folder = folder
        self.numbers = range(1, count + 1)
        self._count = count
        self._progress = progress

    def place(self, number: int) -> Path:
        """The run directory of a shard."""
        return self.folder / str(number)

    def run(self, request: Request, actors: Actors) -> None:
        """Have actors run those that are missing; where one is lost, another has its shard after its own.

        Raises:
            InputError, BackendLostError: as of `run_on_nodes`.
        """
        missing = [number for number in self.numbers if not self._is_done(number, request)]
        self._progress.start("running shards", len(missing))
        assignment, reason = Assignment(len(missing), depth=1), ""
        for actor, place in enumerate(actors.places):
            actors.make(actor, None, FACTORY)
            assignment.join(actor, place.node.name)
        while not assignment.finished:
            if not assignment.actors:
                raise self._lost("no node is left", reason, request)
            for actor in assignment.actors:
                for task in assignment.next_order(actor):
                    shard, place = Shard(missing[task], self._count), actors.places[actor]
                    self._progress.note(f"node {place.node.name}: shard {shard} begins")
                    actors.call(actor, task, "run", request, shard, place.cores)
            for event in actors.wait(_EVERY_S):
                node = actors.places[event.actor].node.name
                if isinstance(event, Lost):
                    reason = event.reason
                    self._progress.note(f"node {node} is lost: {reason}; what it had in hand is run by another one")
                    failed = assignment.leave(event.actor)
                    if failed:
                        two = f"two nodes were lost with shard {missing[failed[0]]}"
                        raise self._lost(two if assignment.actors else "no node is left", reason, request)
                elif isinstance(event.key, int):  # else that of `make`
                    self._take(event.value, node, missing[event.key])
                    assignment.end(event.actor, event.key)

    def _lost(self, what: str, reason: str, request: Request) -> BackendLostError:
        return BackendLostError(
            f"{what}, the last one was lost: {reason}; the shards that are done are in {self.folder}. "
            f"To finish the run: {request.command}"
        )

    def _take(self, answer: bytes | Raised, node: str, number: int) -> None:
        if isinstance(answer, Raised):
            kind = BackendLostError if answer.kind == BackendLostError.__name__ else InputError
            raise kind(f"node {node}, shard {number}/{self._count}: {answer.reason}")
        unfinished = self.folder / f".{number}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        unpack(answer, unfinished)
        shutil.rmtree(self.place(number), ignore_errors=True)  # of a shard that was cut short
        unfinished.replace(self.place(number))
        self._progress.advance(f"shard {number}/{self._count}")

    def _is_done(self, number: int, request: Request) -> bool:
        """Whether an earlier call of the same command has left it.

        Raises:
            InputError: another one has.
        """
        place, shard = self.place(number), str(Shard(number, self._count))
        if not (place / RUN_FILE).is_file():
            return False
        record = read_run(place).record
        remedy = f"remove {self.folder}, or choose another --out"
        if record.settings.shard != shard:
            raise InputError(
                f"{place}: shard {record.settings.shard or 'of none'}, and the cluster has {self._count} nodes now; "
                f"{remedy}"
            )
        if record.command != request.command:
            raise InputError(f"{place}: a shard of another command ({record.command}); {remedy}")
        if record.status != COMPLETE:
            return False
        self._progress.note(f"shard {shard} is of {record.created}, and not run again; to run it anew: {remedy}")
        return True
