"""Where cases are run: by a worker of this machine, or on the nodes of a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.cluster.actors import Actors, RayActors
from bench.cluster.connection import connected, ray
from bench.cluster.places import nodes_of, places
from bench.errors import InputError
from bench.predict.batch import Batch
from bench.predict.nodes.spread import Spread
from bench.predict.runner import Runner, Work


@dataclass(frozen=True)
class ThisMachine:
    """One worker here."""

    @contextmanager
    def runner(self, work: Work) -> Iterator[Runner]:
        """As of `Machines`."""
        yield Batch(work.opening, work.journal, work.read_ahead, work.timeout_s, work.progress)


@dataclass(frozen=True)
class RayCluster:
    """An actor for each GPU of a cluster, or for each group of cores.

    Attributes:
        address: ``auto``, or as Ray takes it.
        cores: of an actor; None for as many as the source has threads.
    """

    address: str
    cores: int | None

    @contextmanager
    def runner(self, work: Work) -> Iterator[Runner]:
        """As of `Machines`."""
        with connected(self.address):
            yield Spread(work, lambda: self._actors(work))

    @contextmanager
    def _actors(self, work: Work) -> Iterator[Actors]:
        target = work.opening.open.target
        chosen = list(places(nodes_of(ray().nodes()), self.cores or target.threads, target.on_cuda))
        if not chosen:
            wanted = "GPU" if target.on_cuda else "core"
            raise InputError(f"--ray {self.address}: no node of the cluster offers a {wanted}; start nodes with one")
        actors = RayActors(chosen)
        try:
            yield actors
        finally:
            actors.end("close")
