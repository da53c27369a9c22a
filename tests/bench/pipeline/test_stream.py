"""Cases in a stream: the same masks byte by byte as one at a time, bounded memory, and errors that lose nothing."""

import gc
import threading
import weakref
from multiprocessing import Pipe
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.errors import InputError
from bench.pipeline import stream
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.stream import WRITE_BEHIND, Stream
from bench.predict.journal import read_lines
from bench.worker.batch import run_batch
from bench.worker.lines import ImageFile
from bench.worker.messages import BatchCase, PredictBatch

SHAPES = [(34, 30, 20), (32, 32, 32), (20, 45, 16), (40, 33, 24), (33, 16, 50), (32, 40, 36), (30, 30, 30)]
SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=(32, 32, 32), overlap=0.5, batch=2, roi="none", window=(-1000, 1000)
)


class Network:
    """Three classes by brightness and place, and a class; no weights."""

    def infer(self, x):
        at = torch.linspace(-0.2, 0.2, x.shape[-1], device=x.device)
        return torch.cat([-((x - level + at) ** 2) for level in (0.3, 0.5, 0.7)], 1), x.mean((2, 3, 4)).repeat(1, 3)

    def sync(self):
        pass


@pytest.fixture
def cases(tmp_path) -> list[tuple[tuple[Path], Path]]:
    rng, cases = np.random.default_rng(0), []
    for number, shape in enumerate(SHAPES):
        image = nib.Nifti1Image(rng.normal(0, 500, shape).astype(np.int16), np.eye(4))
        image.header.set_slope_inter(1, number)
        nib.save(image, tmp_path / f"{number}_0000.nii.gz")
        cases.append(((tmp_path / f"{number}_0000.nii.gz",), tmp_path / f"{number}.nii.gz"))
    return cases


def masks(cases) -> list[bytes | None]:
    return [mask.read_bytes() if mask.exists() else None for _, mask in cases]


@pytest.fixture
def one_at_a_time(cases):
    """Masks and outcomes of the cases without a stream, on one thread; the files are gone again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pipeline = Pipeline(Network(), SETTINGS)
    outcomes = [pipeline.run(*case) for case in cases]
    torch.set_num_threads(before)
    written = masks(cases)
    for _, mask in cases:
        mask.unlink()
    return written, outcomes


@pytest.mark.parametrize("read_ahead", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_masks_are_equal_byte_by_byte(cases, one_at_a_time, read_ahead, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    streamed = Stream(Pipeline(Network(), SETTINGS), read_ahead).run(cases)
    torch.set_num_threads(before)
    expected, outcomes = one_at_a_time
    assert masks(cases) == expected
    assert len(set(expected)) == len(cases)
    assert [(o.subtype, o.tiles) for o in streamed.timings] == [(o.subtype, o.tiles) for o in outcomes]
    assert all(o.stages_ns.keys() == e.stages_ns.keys() for o, e in zip(streamed.timings, outcomes, strict=True))
    assert 0 < streamed.forward_share < 1
    assert max(o.case_ns for o in streamed.timings) <= streamed.wall_ns


@pytest.mark.gpu
@pytest.mark.parametrize("read_ahead", [1, 3, 6])
def test_masks_of_a_stream_on_a_gpu_are_those_of_one_case_at_a_time(cases, read_ahead):
    pipeline = Pipeline(Network(), SETTINGS, "cuda")
    for case in cases:
        pipeline.run(*case)
    expected = masks(cases)
    for _ in range(5):
        for _, mask in cases:
            mask.unlink()
        Stream(pipeline, read_ahead).run(cases)
        assert masks(cases) == expected


class Readers(Pipeline):
    """Has cases read in three threads, as a pipeline on a GPU; the first one is there after another."""

    readers = 3

    def __init__(self, network, settings) -> None:
        super().__init__(network, settings)
        self.another = threading.Event()

    def prepare(self, image, watch):
        prepared = super().prepare(image, watch)
        if image[0].name.startswith("0_"):
            assert self.another.wait(30), "cases are read one after the other"
        self.another.set()
        return prepared


def test_cases_that_are_read_side_by_side_keep_their_order(cases, one_at_a_time):
    pipeline = Readers(Network(), SETTINGS)
    streamed = Stream(pipeline, 4).run(cases)
    assert masks(cases) == one_at_a_time[0]
    assert [timing.tiles for timing in streamed.timings] == [outcome.tiles for outcome in one_at_a_time[1]]


class Counting(Pipeline):
    """Counts the cases that are being read or wait, those with the network among them, and keeps the network busy."""

    def __init__(self, network, settings, read_ahead, cases) -> None:
        super().__init__(network, settings)
        self.read_ahead, self.cases = read_ahead, cases
        self.begun = self.taken = self.ready = 0
        self.most = 0
        self.alive: list[weakref.ref] = []
        self.most_alive = 0
        self.gone_on = threading.Condition()

    def prepare(self, image, watch):
        self.begun += 1
        self.most = max(self.most, self.begun - self.taken)
        prepared = super().prepare(image, watch)
        self.alive.append(weakref.ref(prepared))
        with self.gone_on:
            self.ready += 1
            self.gone_on.notify()
        return prepared

    def label(self, prepared, watch):
        self.taken += 1
        ahead = min(self.taken + self.read_ahead, self.cases)
        with self.gone_on:
            assert self.gone_on.wait_for(lambda: self.ready >= ahead, 60), "it does not read as far ahead as stated"
            self.gone_on.wait_for(lambda: self.ready > ahead, 0.1)  # nor any further: a case is read in milliseconds
        gc.collect()
        self.most_alive = max(self.most_alive, sum(reference() is not None for reference in self.alive))
        return super().label(prepared, watch)


@pytest.fixture
def quick_collection():
    """What is there already is not looked through each time that garbage is collected."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("read_ahead", [1, 2, 4])
def test_never_more_cases_are_held_than_stated(cases, read_ahead, quick_collection):
    pipeline = Counting(Network(), SETTINGS, read_ahead, len(cases))
    Stream(pipeline, read_ahead).run(cases)
    assert pipeline.begun == pipeline.taken == len(cases)
    # One more is counted between a case's being taken and its reaching the network.
    assert read_ahead <= pipeline.most <= read_ahead + 1
    assert pipeline.most_alive == read_ahead + 1, "those that wait, and the one that the network has"
    assert not any(reference() for reference in pipeline.alive)


def test_never_more_masks_wait_than_stated(cases, monkeypatch):
    held, most, lock, write_mask = [0], [0], threading.Lock(), stream.write_mask
    full = threading.Event()

    class Made(Pipeline):
        def label(self, prepared, watch):
            labelled = super().label(prepared, watch)
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            if held[0] == WRITE_BEHIND + 1:
                full.set()
            return labelled

    def slow(*args):
        full.wait(30)
        write_mask(*args)
        with lock:
            held[0] -= 1

    monkeypatch.setattr(stream, "write_mask", slow)
    Stream(Made(Network(), SETTINGS), 2).run(cases)
    assert most[0] == WRITE_BEHIND + 1, "those that wait, and the one that was just made"
    assert all(masks(cases))


def test_a_broken_image_is_reported_and_loses_no_finished_mask(cases, one_at_a_time, tmp_path):
    image = cases[4][0][0]
    image.write_bytes(image.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"4_0000\.nii\.gz: damaged or cut short") as caught:
        Stream(Pipeline(Network(), SETTINGS), 3).run(cases)
    assert "\n" not in str(caught.value)
    assert masks(cases) == [*one_at_a_time[0][:4], None, None, None]
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_reported_and_loses_no_finished_mask(cases, one_at_a_time, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".3.nii.gz").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"3\.nii\.gz: cannot be written \(No space left on device\)"):
        Stream(Pipeline(Network(), SETTINGS), 2).run(cases)
    assert masks(cases)[:4] == [*one_at_a_time[0][:3], None]
    assert all(mask in (None, expected) for mask, expected in zip(masks(cases), one_at_a_time[0], strict=True))
    assert not list(tmp_path.glob(".*"))


def test_a_mask_that_cannot_be_written_costs_a_batch_one_row(cases, one_at_a_time, tmp_path):
    """A segmentation in DICOM is of a DICOM series, and the image of case 3 is none."""
    journal, masks_of = tmp_path / "predictions.jsonl", [mask.name for _, mask in cases]
    journal.write_text("{}\n")
    masks_of[3] = "3.dcm"
    batch = tuple(
        BatchCase(str(number), (ImageFile(str(paths[0]), None, None),), mask)
        for number, ((paths, _), mask) in enumerate(zip(cases, masks_of, strict=True))
    )
    request = PredictBatch(batch, tmp_path, journal, tmp_path / "in-flight", ("CT",), ("a", "b", "c"), 2)
    harness, ours = Pipe()
    with harness, ours:
        run_batch(Pipeline(Network(), SETTINGS), request, ours)
    lines = read_lines(journal)
    assert {name: line.status for name, line in lines.items()} == {
        str(number): "failed" if number == 3 else "ok" for number in range(len(cases))
    }
    assert "a DICOM segmentation is of a DICOM series" in lines["3"].reason
    assert masks(cases) == [*one_at_a_time[0][:3], None, *one_at_a_time[0][4:]]


def test_what_the_network_raises_ends_the_stream(cases):
    class Broken(Network):
        def infer(self, x):
            raise RuntimeError("the runtime broke")

    with pytest.raises(RuntimeError, match="the runtime broke"):
        Stream(Pipeline(Broken(), SETTINGS), 4).run(cases)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]
    assert left == [], "the threads of the stream end with it"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


def test_a_stream_reads_at_least_one_case_ahead(cases):
    with pytest.raises(ValueError, match="at least one"):
        Stream(Pipeline(Network(), SETTINGS), 0)


def test_a_subclass_decides_what_a_broken_case_costs(cases, one_at_a_time):
    """The others are finished, however many are broken, and whether in reading or by the network."""
    failed: list[tuple[int, str]] = []

    class Going(Stream):
        def label(self, number, ahead):
            if number == 5:
                raise RuntimeError("the runtime broke")
            return super().label(number, ahead)

        def case_failed(self, number, error):
            failed.append((number, type(error).__name__))

    for number in (0, 1, 6):
        image = cases[number][0][0]
        image.write_bytes(image.read_bytes()[:-60])
    written = []
    Going(Pipeline(Network(), SETTINGS), 2).run_all(cases, written.append)
    assert failed == [(0, "InputError"), (1, "InputError"), (5, "RuntimeError"), (6, "InputError")]
    assert masks(cases) == [None, None, *one_at_a_time[0][2:5], None, None]
    assert [timing.tiles for timing in written] == [outcome.tiles for outcome in one_at_a_time[1][2:5]]
