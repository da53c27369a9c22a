"""Who does what next, of tasks that any actor can do; and what becomes of them where actors or their workers die."""

from collections import deque
from collections.abc import Sequence

_DEPTH = 2  # orders that an actor has: while it does one, the next is on its way or there
_TRIES = 2  # of a task that its worker did not survive


class Assignment:
    """Tasks are numbers from 0; an order is some of them that go to an actor together.

    Orders become smaller towards the end, so that all actors end at about the same time.
    """

    def __init__(self, tasks: int, largest: int = 1, depth: int = _DEPTH) -> None:
        """`largest`: tasks in an order at most. `depth`: orders that an actor has at a time at most."""
        self._depth = depth
        self._fresh = deque(range(tasks))
        self._again = deque[int]()  # that broke a worker; each goes alone
        self._largest = largest
        self._nodes: dict[int, str] = {}  # of each actor
        self._orders: dict[int, list[list[int]]] = {}
        self._broke_on: dict[int, list[str]] = {}  # by task

    @property
    def finished(self) -> bool:
        """Whether no task waits, and none is in hand."""
        return not (self._fresh or self._again or any(self._orders.values()))

    @property
    def actors(self) -> Sequence[int]:
        """Those that are there."""
        return tuple(self._nodes)

    def join(self, actor: int, node: str) -> None:
        """An actor on `node` can be given orders."""
        self._nodes[actor], self._orders[actor] = node, []

    def next_order(self, actor: int) -> list[int]:
        """The tasks that the actor is to do next; empty where it has enough, or nothing is left that it should do.

        A task that broke its worker goes to another node where there is one.
        """
        if len(self._orders[actor]) >= self._depth:
            return []
        fit = next((task for task in self._again if self._may(actor, task)), None)
        if fit is not None:
            self._again.remove(fit)
            order = [fit]
        else:
            share = len(self._fresh) // (self._depth * len(self._nodes))
            size = min(max(1, min(self._largest, share)), len(self._fresh))
            order = [self._fresh.popleft() for _ in range(size)]
        if order:
            self._orders[actor].append(list(order))
        return order

    def end(self, actor: int, task: int) -> None:
        """The task is done, or has failed by itself."""
        for order in self._orders[actor]:
            if task in order:
                order.remove(task)
        self._orders[actor] = [order for order in self._orders[actor] if order]

    def broke(self, actor: int, task: int) -> bool:
        """The task's worker died of it; return whether it is tried again, or has failed."""
        self.end(actor, task)
        return self._try_again(task, self._nodes[actor])

    def leave(self, actor: int) -> list[int]:
        """The actor is gone; its tasks wait for others. Return those that have failed, as it was not the first time.

        The order that it worked on may have been its end, and counts as a try; the next one had not begun.
        """
        node, orders = self._nodes.pop(actor), self._orders.pop(actor)
        begun, waiting = (orders[0] if orders else []), [task for order in orders[1:] for task in order]
        self._again.extendleft(task for task in reversed(waiting) if task in self._broke_on)
        self._fresh.extendleft(task for task in reversed(waiting) if task not in self._broke_on)
        return [task for task in begun if not self._try_again(task, node)]

    def _try_again(self, task: int, node: str) -> bool:
        nodes = self._broke_on.setdefault(task, [])
        nodes.append(node)
        if len(nodes) >= _TRIES:
            return False
        self._again.append(task)
        return True

    def _may(self, actor: int, task: int) -> bool:
        """Whether the task has not broken a worker on the actor's node, or there is no other node."""
        broke_on = self._broke_on[task]
        return self._nodes[actor] not in broke_on or not set(self._nodes.values()) - set(broke_on)
