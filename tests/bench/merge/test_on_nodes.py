"""Shards on the nodes of a cluster: each is run once, where nodes die by another, and joined as `bench merge` does it.

The nodes are stood in for by `Nodes`, which answer with folders of shards that are written here. That whole duels are
run on real ones is shown in tests/bench/end_to_end/test_on_nodes.py.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from bench.cluster.actors import Answer, Event, Lost
from bench.cluster.host import Raised
from bench.cluster.places import Node, Place
from bench.errors import BackendLostError, InputError
from bench.merge import on_nodes
from bench.merge.on_nodes import Shards, run_on_nodes
from bench.merge.shard_runner import packed, unpack
from bench.plan.request import Request
from bench.progress import Unshown
from bench.shard import Shard
from reports.records.store import read_run, write_run
from tests.bench.merge.test_runs import whole, written
from tests.reports.sharded import shard_of

REQUEST = Request(rounds=2, command="bench run --ray HOST:1 --rounds 2 --out run")
DIES = "its process or its node died"


class Nodes:
    """Actors that answer in their order; what each does with a shard is said by `does`, by node and number."""

    def __init__(self, scratch: Path, count: int, does: dict[tuple[int, int], object]) -> None:
        self.places: Sequence[Place] = [Place(Node(str(n), f"node{n}", 2, 0), 2) for n in range(count)]
        self.called: list[tuple[int, int]] = []
        self._scratch = scratch
        self._does = does
        self._events = deque[Event]()

    def make(self, actor: int, key: Hashable, factory: str, *_: Any) -> None:
        assert factory == "bench.merge.shard_runner:ShardRunner"
        self._events.append(Answer(actor, key, None))

    def call(self, actor: int, key: Hashable, method: str, request: Request, shard: Shard, cores: int) -> None:
        assert (method, replace(request, folder=None), cores) == ("run", REQUEST, 2)
        self.called.append((actor, shard.number))
        does = self._does.get((actor, shard.number))
        if does == DIES:
            self._events.append(Lost(actor, DIES))
        elif does is not None:
            self._events.append(Answer(actor, key, does))
        else:
            folder = Path(mkdtemp(dir=self._scratch))
            self._events.append(
                Answer(actor, key, packed(written(shard_of(whole(), shard, command=request.command), folder)))
            )

    def wait(self, timeout_s: float) -> list[Event]:
        assert timeout_s <= 1
        return [self._events.popleft()] if self._events else []


@pytest.fixture
def run(tmp_path) -> Callable[..., Nodes]:
    def call(count: int, does: dict[tuple[int, int], object] | None = None) -> Nodes:
        nodes = Nodes(tmp_path, count, does or {})
        Shards(tmp_path / "run-shards", count, Unshown()).run(REQUEST, nodes)  # type: ignore[arg-type]
        return nodes

    return call


def numbers(tmp_path: Path) -> list[str]:
    return sorted(folder.name for folder in (tmp_path / "run-shards").iterdir())


def test_each_node_runs_a_shard(run, tmp_path):
    nodes = run(3)
    assert nodes.called == [(0, 1), (1, 2), (2, 3)]
    assert numbers(tmp_path) == ["1", "2", "3"]
    assert [read_run(tmp_path / "run-shards" / name).record.settings.shard for name in "123"] == ["1/3", "2/3", "3/3"]


def test_the_shard_of_a_node_that_dies_is_run_by_another_after_its_own(run, tmp_path):
    nodes = run(3, {(0, 1): DIES})
    assert nodes.called == [(0, 1), (1, 2), (2, 3), (1, 1)]
    assert numbers(tmp_path) == ["1", "2", "3"]


def test_where_no_node_is_left_what_is_done_is_kept_and_not_run_again(run, tmp_path):
    with pytest.raises(BackendLostError, match=r"no node is left, .* To finish the run: bench run --ray HOST:1"):
        run(2, {(0, 1): DIES, (1, 1): DIES})
    assert numbers(tmp_path) == ["2"]
    assert run(2).called == [(0, 1)]
    with pytest.raises(InputError, match=r"shard 1/2, and the cluster has 3 nodes now; remove .*run-shards, or choose"):
        run(3)


def test_a_shard_that_two_nodes_were_lost_with_ends_the_run(run, tmp_path):
    with pytest.raises(BackendLostError, match="two nodes were lost with shard 1, the last one was lost"):
        run(3, {(0, 1): DIES, (1, 1): DIES, (2, 1): DIES})
    assert numbers(tmp_path) == ["2", "3"]


def test_shards_of_another_command_are_not_taken(run, tmp_path):
    run(2)
    folder = tmp_path / "run-shards" / "2"
    before = read_run(folder)
    write_run(folder, replace(before, record=replace(before.record, command="bench run --rounds 3")))
    with pytest.raises(
        InputError, match=r"2: a shard of another command \(bench run --rounds 3\); remove .*run-shards"
    ):
        run(2)


@pytest.mark.parametrize("kind", [InputError, BackendLostError])
def test_what_a_node_refuses_is_one_line(kind, run, tmp_path):
    with pytest.raises(kind, match=r"^node node1, shard 2/2: no such file$"):
        run(2, {(1, 2): Raised(kind.__name__, "no such file")})


def test_a_shard_that_was_cut_short_is_run_again(run, tmp_path):
    run(2)
    folder = tmp_path / "run-shards" / "1"
    before = read_run(folder)
    write_run(folder, replace(before, record=replace(before.record, status="running")))
    (tmp_path / "run-shards" / ".1").mkdir()
    assert run(2).called == [(0, 1)]
    assert numbers(tmp_path) == ["1", "2"]


def test_an_archive_leads_nowhere_else(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    (tmp_path / "folder" / "link").symlink_to("/etc/passwd")
    place = tmp_path / "place"
    with pytest.raises(Exception, match="absolute"):
        unpack(packed(tmp_path / "folder"), place)
    (tmp_path / "folder" / "link").unlink()
    unpack(packed(tmp_path / "folder"), place)
    assert (place / "file").read_text() == "content"


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (Request(), "--ray HOST:1: a shard that ends by what it alone has seen would bias"),
        (Request(rounds=2, shard=Shard(1, 2)), "--shard 1/2: with --ray each node has a shard of its own"),
    ],
)
def test_what_is_refused_before_a_cluster_is_joined(request_, line, monkeypatch, tmp_path):
    monkeypatch.setattr(on_nodes, "connected", None)
    with pytest.raises(InputError, match=line):
        run_on_nodes(request_, "HOST:1", tmp_path / "run", Unshown())
