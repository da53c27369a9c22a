"""Actors, each with a `Host` at a place of its own: calls go to them, and answers come in any order."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from bench.cluster.connection import ray
from bench.cluster.host import Host, versions
from bench.cluster.places import Place
from bench.errors import InputError

_START_S = 120.0  # for a node to start a process and import voxbench
_CLOSE_S = 10.0  # for what an actor does at its end


@dataclass(frozen=True)
class Answer:
    """What the call `key` of an actor returned, which may be a `Raised`."""

    actor: int
    key: Hashable
    value: Any


@dataclass(frozen=True)
class Lost:
    """The actor is gone, and all of its calls with it."""

    actor: int
    reason: str


Event = Answer | Lost


class Actors(Protocol):
    """Actors by their numbers, from 0, which are those of their places. Each does its calls one after the other.

    One that is gone does nothing, and `wait` has said so, or will.
    """

    @property
    def places(self) -> Sequence[Place]:
        """Where they live."""
        ...

    def share(self, value: Any) -> Any:
        """What to hand to several calls in the place of a large value, so that each node gets it once."""
        ...

    def make(self, actor: int, key: Hashable, factory: str, *arguments: Any) -> None:
        """Have the actor make its object, as ``module:Class``."""
        ...

    def call(self, actor: int, key: Hashable, method: str, *arguments: Any) -> None:
        """Have the actor call a method of its object; the arguments must hold no name that is to be kept secret."""
        ...

    def wait(self, timeout_s: float) -> list[Event]:
        """What has happened, after at most so many seconds."""
        ...

    def drop(self, actor: int) -> None:
        """Stop an actor; nothing more is heard of it."""
        ...


class RayActors:
    """Those of a Ray cluster that this process is connected to."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Start them; a place where none can be started is lost later.

        Raises:
            InputError: versions on a node are others than here.
        """
        self.places = places
        self._ray = ray()
        self._pending: dict[Any, tuple[int, Hashable]] = {}  # by what Ray calls the answer
        self._lost = list[Event]()
        self._handles = {number: self._started(place) for number, place in enumerate(places)}
        try:
            self._refuse_other_versions()
        except BaseException:
            self.end()
            raise

    def share(self, value: Any) -> Any:
        return self._ray.put(value)

    def make(self, actor: int, key: Hashable, factory: str, *arguments: Any) -> None:
        if actor in self._handles:
            self._pending[self._handles[actor].make.remote(factory, *arguments)] = actor, key

    def call(self, actor: int, key: Hashable, method: str, *arguments: Any) -> None:
        if actor in self._handles:
            self._pending[self._handles[actor].call.remote(method, *arguments)] = actor, key

    def wait(self, timeout_s: float) -> list[Event]:
        events, self._lost = self._lost, []
        if events or not self._pending:
            return events
        done, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        for reference in done:
            if reference in self._pending:  # else its actor was lost by another answer
                events.append(self._event(reference))
        return events

    def drop(self, actor: int) -> None:
        with suppress(Exception):  # of whatever kind Ray's is where it is gone already
            self._ray.kill(self._handles[actor])
        self._forget(actor)

    def end(self, method: str | None = None) -> None:
        """Stop all of them, after a last call of `method` of each."""
        if method is not None and self._handles:
            last = [handle.call.remote(method) for handle in self._handles.values()]
            with suppress(Exception):
                self._ray.wait(last, num_returns=len(last), timeout=_CLOSE_S)
        for actor in list(self._handles):
            self.drop(actor)

    def _started(self, place: Place) -> Any:
        pinned = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node.key, soft=False)
        options = {"num_cpus": place.cores, "num_gpus": int(place.gpu), "scheduling_strategy": pinned}
        return self._ray.remote(Host).options(**options, max_restarts=0, max_task_retries=0).remote()

    def _refuse_other_versions(self) -> None:
        here = versions()
        asked = {handle.versions.remote(): number for number, handle in self._handles.items()}
        answered, late = self._ray.wait(list(asked), num_returns=len(asked), timeout=_START_S)
        for reference in late:
            self._lose(asked[reference], f"not started within {_START_S:g} s; other work may have its cores")
        for reference in answered:
            actor = asked[reference]
            try:
                there: dict[str, str] = self._ray.get(reference)
            except Exception as error:  # Ray's own are of many kinds
                self._lose(actor, f"voxbench cannot be started there ({type(error).__name__})")
                continue
            other = next((name for name in here if there.get(name) != here[name]), None)
            if other is not None:
                raise InputError(
                    f"node {self.places[actor].node.name}: has {other} {there.get(other)}, and here it is "
                    f"{here[other]}; install the same version on every node"
                )

    def _event(self, reference: Any) -> Event:
        actor, key = self._pending.pop(reference)
        try:
            return Answer(actor, key, self._ray.get(reference))
        except Exception as error:  # the process or its node died, or an answer could not be fetched from there
            reason = _reason(error)
        self.drop(actor)  # it may live still, on a node that is out of reach
        return Lost(actor, reason)

    def _lose(self, actor: int, reason: str) -> None:
        self.drop(actor)
        self._lost.append(Lost(actor, reason))

    def _forget(self, actor: int) -> None:
        self._handles.pop(actor, None)
        self._pending = {reference: each for reference, each in self._pending.items() if each[0] != actor}


def _reason(error: BaseException) -> str:
    """Without Ray's own text, which is long and may say what was called."""
    return f"its process or its node died ({type(error).__name__})"
