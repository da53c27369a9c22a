"""How cases are spread, over actors in this process that have no worker: without Ray."""

import gzip
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bench.cli.exit_codes import BAD_INPUT
from bench.cli.main import main
from bench.cluster.actors import Answer, Event, Lost
from bench.cluster.host import raised
from bench.cluster.places import Node, Place
from bench.data.write import write_mask
from bench.errors import BackendLostError, InputError
from bench.predict.inputs import image_file
from bench.predict.journal import Journal
from bench.predict.nodes import transport
from bench.predict.nodes.predictor import Predicted
from bench.predict.nodes.spread import Spread
from bench.predict.nodes.transport import Finder, Outcome, SentCase
from bench.predict.runner import Work
from bench.progress import Unshown
from bench.worker.lines import FAILED, OK, Line
from bench.worker.messages import BatchCase

AFFINE = np.diag([0.7, 0.8, 2.5, 1.0])
BREAKING, NOT_FINITE = 950, 900  # voxels


class Thresholds:
    """A predictor whose labels are the voxels above 0."""

    def __init__(self, node: str, salt: bytes) -> None:
        self.node = node
        self._finder = Finder(salt)

    def open(self, source: Any, identity: Mapping[str, str]) -> Any:
        if self.node == "refusing":
            raise InputError("onnx is not installed")
        return None if self.node == "bare" else "opened"

    def receive(self, source: Any, files: Mapping[str, bytes]) -> Any:
        assert set(files) == {"package.json"}
        return "opened"

    def sees(self, cases: Sequence[Sequence[transport.Place]]) -> tuple[bool, ...]:
        return tuple(self.node != "blind" and self._finder.find(case[0]) is not None for case in cases)

    def predict(self, cases: Sequence[SentCase]) -> Predicted:
        if self.node == "full":
            raise OSError(28, "no space", "Muster")
        return Predicted(tuple(map(self._outcome, cases)), 0.5, 7)

    def _outcome(self, case: SentCase) -> Outcome:
        (image,) = case.images
        sent = isinstance(image, transport.Content)
        assert sent == (self.node == "blind")
        content = image.content if sent else self._finder.find(image).read_bytes()
        voxels = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
        line = Line(case=case.label, images=(), status=OK, seconds={"forward": 0.25})
        if voxels.max() == BREAKING:
            return Outcome(case.label, replace(line, status=FAILED, reason="killed"), broke=True)
        if voxels.max() == NOT_FINITE:
            return Outcome(case.label, replace(line, status=FAILED, reason="{path 0}: not finite"))
        labels = (voxels > 0).astype(np.uint8)
        return Outcome(case.label, line, labels.shape, gzip.compress(labels.tobytes(order="F")))


class InProcess:
    """Actors of this process, which do a call each time they are waited for; those of `dying` die at so many cases."""

    def __init__(self, nodes: Sequence[str], dying: Mapping[int, int]) -> None:
        self.places = [Place(Node(str(number), name, 1, 0), 1) for number, name in enumerate(nodes)]
        self.handled = list[tuple[int, str]]()  # actor and label
        self._calls = deque[tuple[int, Hashable, str, tuple[Any, ...]]]()
        self._predictors: dict[int, Thresholds] = {}
        self._dying = dict(dying)

    def share(self, value: Any) -> Any:
        return value

    def make(self, actor: int, key: Hashable, factory: str, *arguments: Any) -> None:
        assert factory == "bench.predict.nodes.predictor:Predictor"
        self._predictors[actor] = Thresholds(self.places[actor].node.name, arguments[0])
        self._calls.append((actor, key, "__str__", ()))

    def call(self, actor: int, key: Hashable, method: str, *arguments: Any) -> None:
        self._calls.append((actor, key, method, arguments))

    def drop(self, actor: int) -> None:
        self._calls = deque(call for call in self._calls if call[0] != actor)

    def wait(self, timeout_s: float) -> list[Event]:
        if not self._calls:
            return []
        actor, key, method, arguments = self._calls.popleft()
        if method == "predict":
            self._dying[actor] = self._dying.get(actor, 1000) - len(arguments[0])
            if self._dying[actor] < 0:
                self.drop(actor)
                return [Lost(actor, "the node died")]
            self.handled += [(actor, case.label) for case in arguments[0]]
        try:
            return [Answer(actor, key, getattr(self._predictors[actor], method)(*arguments))]
        except Exception as error:
            return [Answer(actor, key, raised(error))]


@dataclass
class Source:
    """One that is opened nowhere."""

    path: Path
    is_package: bool

    def sent(self) -> "Source":
        return self

    def on(self, device: str, threads: int) -> "Source":
        return self


class Spreading:
    """Spreads cases, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.source = folder / "package"
        self.source.mkdir()
        (self.source / "package.json").write_text("{}")
        self.notes = list[str]()
        self.cases = [self.case(f"case_{number}") for number in range(9)]

    def case(self, name: str, value: int | None = None) -> BatchCase:
        voxels = np.random.default_rng(len(name)).integers(-9, 9, (6, 5, 4)).astype(np.int16)
        voxels[0] = voxels[0] if value is None else value
        path = self.folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return BatchCase(name, (image_file(path),), f"{name}.nii.gz")

    def run(self, *nodes: str, dying: Mapping[int, int] | None = None, package: bool = True) -> Spread:
        progress = Unshown()
        progress.note = self.notes.append
        self.actors = InProcess(nodes, dying or {})
        opened = SimpleNamespace(
            name="torch-fp32", target=SimpleNamespace(device="cpu"), settings=SimpleNamespace(names=())
        )
        opening: Any = SimpleNamespace(open=opened, identity={}, task=SimpleNamespace(channels=("CT",), classes=()))
        self.journal = Journal(self.out, {}, ())
        source: Any = Source(self.source, package)
        runner = Spread(Work(source, opening, self.journal, 1, 60.0, progress), self._actors)
        with self.journal.opened():
            work = self.journal.sort(self.cases)
            runner.run(work.fresh, work.failed)
        return runner

    @contextmanager
    def _actors(self) -> Iterator[InProcess]:
        yield self.actors

    def status(self) -> dict[str, str]:
        lines = [Line.decoded(line) for line in self.journal.path.read_bytes().splitlines()]
        ended = [line.case for line in lines if line is not None]
        assert len(ended) == len(set(ended)), "a line each"
        return {line.case: line.reason or line.status for line in lines if line is not None}


@pytest.fixture
def spreading(tmp_path) -> Spreading:
    return Spreading(tmp_path)


def expected(case: BatchCase, path: Path) -> bytes:
    image = nib.load(case.images[0].path)
    write_mask(path, (np.asarray(image.dataobj) > 0).astype(np.uint8), image)
    return path.read_bytes()


@pytest.mark.parametrize("nodes", [("a", "b"), ("blind", "a"), ("bare", "a"), ("refusing", "a")])
def test_masks_are_those_of_one_machine_wherever_cases_ran(spreading, nodes, tmp_path):
    runner = spreading.run(*nodes)
    assert set(spreading.status().values()) == {OK}
    for case in spreading.cases:
        assert (spreading.out / case.mask).read_bytes() == expected(case, tmp_path / "mask.nii.gz")
    assert sum(row.cases for row in runner.nodes) == 9
    assert (runner.opened, runner.peak_memory_bytes, runner.forward_s) == ("opened", 7, 9 * 0.25)
    assert runner.worker_s == sum(row.seconds for row in runner.nodes)
    for row in runner.nodes:
        assert (row.cases == 0) == (row.node == "refusing")
    assert spreading.notes == {
        "blind": ["node blind does not see the files of 9 of the cases; their voxels are sent there"],
        "refusing": ["node refusing is left out: onnx is not installed"],
    }.get(nodes[0], [])


@pytest.mark.parametrize("cases", range(4))
def test_a_node_that_dies_costs_no_case(spreading, cases):
    runner = spreading.run("a", "b", dying={1: cases})
    assert set(spreading.status().values()) == {OK}
    assert [row.lost for row in runner.nodes] == [None, "the node died"]
    assert sum(row.cases for row in runner.nodes) == 9
    assert spreading.notes == ["node b is lost: the node died"]


def test_the_last_node_that_dies_ends_the_call_and_the_next_goes_on(spreading):
    with pytest.raises(BackendLostError, match=r"^torch-fp32 failed: no node is left, the last one was lost: the"):
        spreading.run("a", "b", dying={0: 2, 1: 1})
    assert list(spreading.status().values()) == [OK] * 3
    spreading.run("a")
    assert list(spreading.status().values()) == [OK] * 9
    assert len(spreading.actors.handled) == 6


def test_a_node_whose_disk_is_full_is_left(spreading):
    spreading.run("full", "a")
    assert set(spreading.status().values()) == {OK}
    assert spreading.notes == ["node full is lost: no space"]


def test_a_case_that_breaks_its_worker_is_tried_on_another_node_once(spreading):
    spreading.cases.insert(1, spreading.case("breaking", BREAKING))
    spreading.cases.insert(3, spreading.case("infinite", NOT_FINITE))
    spreading.run("a", "b")
    status = spreading.status()
    assert (status["breaking"], list(status.values()).count(OK)) == ("killed", 9)
    assert status["infinite"] == f"{spreading.folder / 'infinite.nii.gz'}: not finite"
    tasks = [(actor, label.partition("-")[0]) for actor, label in spreading.actors.handled]
    assert sorted(actor for actor, task in tasks if task == "1") == [0, 1]
    assert len([task for _, task in tasks if task == "3"]) == 1, "the case itself is wrong, which no other node changes"


def test_images_that_cannot_be_read_are_sent_to_nobody(spreading):
    path = spreading.folder / "broken.nii.gz"
    path.write_bytes(b"no image")
    spreading.cases.insert(0, BatchCase("broken", (image_file(path),), "broken.nii.gz"))
    spreading.run("blind")
    assert spreading.status()["broken"].startswith(f"{path}: not a readable NIfTI file")
    assert len(spreading.actors.handled) == 9


def test_a_run_that_a_node_does_not_have_is_refused_before_the_first_case(spreading):
    with pytest.raises(InputError, match="/package: is not on node bare, or another one is; put it on storage"):
        spreading.run("a", "bare", package=False)
    assert spreading.status() == {}


def test_where_no_node_can_open_it_the_line_says_why(spreading):
    with pytest.raises(InputError, match=r"^no node can open torch-fp32; refusing: onnx is not installed"):
        spreading.run("refusing", "refusing")


def test_where_all_is_done_no_actor_is_started(spreading):
    spreading.run("a")
    assert spreading.run().nodes == ()


def test_cores_of_actors_without_a_cluster_are_one_line(capsys):
    assert main(["predict", "package", "images", "--out", "out", "--ray-cpus", "2"]) == BAD_INPUT
    assert capsys.readouterr().err.startswith("bench: --ray-cpus: is the cores of an actor in a cluster; name one with")
