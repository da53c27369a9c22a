"""Where actors may live: each GPU of a cluster's nodes, or each group of their cores."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or what Ray takes for one.

    Attributes:
        key: by which Ray knows it.
        name: for people, another one for each.
        cores, gpus: that it offers.
    """

    key: str
    name: str
    cores: int
    gpus: int


@dataclass(frozen=True)
class Place:
    """What an actor takes of a node: so many cores, and a GPU or none."""

    node: Node
    cores: int
    gpu: bool = False


def nodes_of(described: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes that are alive, as ``ray.nodes()`` describes them, sorted by name; several of one name are numbered."""
    alive = sorted(
        (str(node["NodeManagerHostname"]), str(node["NodeID"]), node["Resources"])
        for node in described
        if node["Alive"]
    )
    count, seen, nodes = Counter(name for name, _, _ in alive), Counter[str](), list[Node]()
    for name, key, resources in alive:
        seen[name] += 1
        shown = name if count[name] == 1 else f"{name} #{seen[name]}"
        nodes.append(Node(key, shown, int(resources.get("CPU", 0)), int(resources.get("GPU", 0))))
    return nodes


def places(nodes: Iterable[Node], cores: int, gpu: bool) -> Iterator[Place]:
    """A place for each GPU, which shares the node's cores with the others; or for each group of so many cores.

    A node with fewer cores is one place.
    """
    for node in nodes:
        count = node.gpus if gpu else max(min(node.cores, 1), node.cores // cores)
        of_each = min(cores, node.cores // count) if count else 0
        yield from (Place(node, of_each, gpu) for _ in range(count))
