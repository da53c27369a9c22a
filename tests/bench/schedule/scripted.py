"""A run whose workers are a script: what the schedule does with their replies, without a process."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.plan.plan import Plan
from bench.progress import Unshown
from bench.schedule.interleave import Interleaver
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from bench.worker.messages import Built, Open, Opened, Predicted
from reports.records.record import INTERLEAVED, RunRecord, Sample, VariantRecord

Takes = Callable[[str, int], int]  # nanoseconds of a case by the variant of that name; the number of the sample in all
MEMORY = 111


class ScriptedFleet:
    """Replies as a fleet of workers does, at once; each case takes what the script says."""

    def __init__(self, takes: Takes) -> None:
        self.building: list[str] = []
        self._takes, self._open, self._known = takes, dict[str, Open](), dict[str, Open]()
        self._samples = 0

    @property
    def open_names(self) -> list[str]:
        return [name for name in self._open if name not in self.building]

    def know(self, requests: Iterable[Open]) -> None:
        self._known |= {request.name: request for request in requests}

    def request(self, name: str) -> Open:
        return self._known[name]

    def begin(self, request: Open) -> None:
        self.know([request])
        self._open[request.name] = request
        self.building.append(request.name)

    def built(self) -> tuple[str, Built]:
        return self.building.pop(0), Built(9.0, MEMORY, None)

    def warm_up(self, name: str) -> Opened:
        return Opened(9.0, True, {"provider": "x", "mac_share": {}}, MEMORY, {"passes": 3}, None)

    def reopen(self, name: str) -> Opened:
        self._open[name] = self.request(name)
        return self.warm_up(name)

    def predict(self, name: str, *_: Any) -> Predicted:
        self._samples += 1
        timing = SimpleNamespace(
            case_ns=self._takes(name, self._samples), stages_ns={}, device_ns=None, tiles=1, subtype=0, roi=None,
            class_checked=False,
        )  # fmt: skip
        return Predicted(timing, float(self._samples), 1, MEMORY, None)  # type: ignore[arg-type]

    def starts_processes(self, name: str) -> bool:
        return False

    def pid(self, name: str) -> int:
        return os.getpid()

    def close(self, name: str) -> None:
        del self._open[name]

    def close_all_but(self, names: Iterable[str]) -> None:
        for name in set(self._open) - set(names):
            self.close(name)

    def has_room(self, _: Open) -> bool:
        return True


class ScriptedRun:
    """A plan with its store and its interleaver, in a folder of its own."""

    def __init__(self, record: RunRecord, variants: Sequence[VariantRecord], folder: Path) -> None:
        self.record = record
        self.store = RunStore(RunDirectory.create(folder), {each.name: each for each in variants})
        self.interleaver = Interleaver(self.store, record, Unshown())
        self.plan = Plan(record, tuple(_request(each.name) for each in variants))

    def rounds(self, name: str) -> list[int]:
        """The round of each interleaved sample of a variant, in their order."""
        return [sample.round for sample in self.store.records[name].samples if sample.phase == INTERLEAVED]


def interleaved(variant: VariantRecord, number: int, launch: int = 0) -> tuple[Sample, ...]:
    """Its samples of a round."""
    samples = (sample for sample in variant.samples if (sample.phase, sample.round) == (INTERLEAVED, number))
    return tuple(replace(sample, launch=launch) for sample in samples)


def _request(name: str) -> Open:
    target, backend = SimpleNamespace(threads=1, cache=Path(), on_cuda=False), SimpleNamespace(precision="fp32")
    return Open(name, backend, Path(), None, None, target, None)  # type: ignore[arg-type]
