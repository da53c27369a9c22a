"""Where actors live, of what `ray.nodes()` says."""

import pytest

from bench.cluster.places import Node, Place, nodes_of, places


def described(name: str, key: str, alive: bool = True, **resources: float) -> dict:
    return {"NodeManagerHostname": name, "NodeID": key, "Alive": alive, "Resources": resources}


def test_nodes_that_are_alive_with_a_name_of_their_own():
    nodes = nodes_of(
        [described("beta", "3", CPU=8.0, GPU=2.0), described("alpha", "2", CPU=1), described("alpha", "1"),
         described("gone", "4", alive=False, CPU=4)]
    )  # fmt: skip
    assert nodes == [Node("1", "alpha #1", 0, 0), Node("2", "alpha #2", 1, 0), Node("3", "beta", 8, 2)]


@pytest.mark.parametrize(
    ("cores", "gpus", "wanted", "gpu", "expected"),
    [
        (8, 0, 4, False, [4, 4]),
        (7, 0, 3, False, [3, 3]),
        (2, 0, 4, False, [2]),
        (0, 0, 4, False, []),
        (16, 2, 4, True, [4, 4]),
        (4, 4, 4, True, [1, 1, 1, 1]),
        (8, 0, 4, True, []),
    ],
)
def test_places_of_a_node(cores, gpus, wanted, gpu, expected):
    node = Node("k", "n", cores, gpus)
    assert list(places([node], wanted, gpu)) == [Place(node, each, gpu) for each in expected]
