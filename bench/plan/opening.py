"""A way of inference made ready for a worker, and what identifies it."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.worker.messages import Open
from models.task import Task


@dataclass(frozen=True)
class Opening:
    """What predicts cases.

    Attributes:
        open: the request that a worker opens it by.
        task: of its network.
        identity: which it is, name to value: equal identities give equal predictions on one machine.
    """

    open: Open
    task: Task
    identity: Mapping[str, str]
