"""Who does what, where actors come and go; without Ray."""

import random

import pytest

from bench.cluster.assignment import Assignment


def joined(tasks: int, *nodes: str, largest: int = 1) -> Assignment:
    assignment = Assignment(tasks, largest)
    for actor, node in enumerate(nodes):
        assignment.join(actor, node)
    return assignment


def test_each_actor_has_two_orders_so_that_it_never_waits():
    assignment = joined(9, "a", "b")
    assert [assignment.next_order(0) for _ in range(3)] == [[0], [1], []]
    assert [assignment.next_order(1) for _ in range(3)] == [[2], [3], []]
    assignment.end(0, 0)
    assert assignment.next_order(0) == [4]


def test_orders_become_smaller_towards_the_end():
    assignment, sizes = joined(20, "a", "b", largest=3), []
    while order := assignment.next_order(0):
        sizes.append(len(order))
        for task in order:
            assignment.end(0, task)
    assert sizes == [3, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert assignment.finished


def test_what_a_lost_actor_had_is_done_by_another_and_its_second_order_first():
    assignment = joined(4, "a", "b")
    assert [assignment.next_order(0), assignment.next_order(0)] == [[0], [1]]
    assert assignment.leave(0) == []
    assert [assignment.next_order(1), assignment.next_order(1)] == [[0], [1]]
    assert not assignment.finished


def test_a_task_that_broke_its_worker_goes_to_another_node_and_fails_there_for_good():
    assignment = joined(2, "a", "a", "b")
    assert assignment.next_order(0) == [0]
    assert assignment.broke(0, 0)
    assert assignment.next_order(1) == [1], "not the same node"
    assert assignment.next_order(2) == [0]
    assert not assignment.broke(2, 0)
    assignment.end(1, 1)
    assert assignment.finished


def test_it_stays_on_the_only_node_there_is():
    assignment = joined(1, "a")
    assignment.next_order(0)
    assert assignment.broke(0, 0)
    assert assignment.next_order(0) == [0]
    assert assignment.leave(0) == [0], "lost for the second time"
    assert assignment.finished


def test_a_task_that_broke_goes_alone():
    assignment = joined(12, "a", "b", largest=3)
    assert assignment.next_order(0) == [0, 1, 2]
    assert assignment.broke(0, 1)
    assert assignment.next_order(1) == [1]
    assignment.leave(1)  # after it began with 1
    assignment.end(0, 0)
    assignment.end(0, 2)
    order = assignment.next_order(0)
    assert 1 not in order, "it has failed"


@pytest.mark.parametrize("seed", range(20))
def test_every_task_ends_once_whatever_dies(seed):
    rng, ended = random.Random(seed), list[int]()
    assignment = joined(40, *"aabbcc", largest=3)
    held: dict[int, list[int]] = {actor: [] for actor in range(6)}
    while not assignment.finished:
        actor = rng.choice(assignment.actors)
        held[actor] += assignment.next_order(actor)
        fate = rng.random()
        if fate < 0.05 and len(assignment.actors) > 1:
            ended += assignment.leave(actor)
        elif held[actor] and fate < 0.1:
            task = held[actor].pop(0)
            ended += [] if assignment.broke(actor, task) else [task]
        elif held[actor]:
            ended.append(held[actor][0])
            assignment.end(actor, held[actor].pop(0))
    assert sorted(ended) == list(range(40))
