"""The records of a run, in memory and on disk, and what of them an interrupted run left."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.schedule.run_directory import RunDirectory
from reports.records.record import ALL_CASES, INTERLEAVED, WARMUP, Case, RunRecord, Sample, VariantRecord
from reports.records.store import Run


class RunStore:
    """Takes each change of a variant's record and saves it before the next.

    Attributes:
        records: of the variants, by name.
        directory: where they are saved.
    """

    def __init__(self, directory: RunDirectory, records: Mapping[str, VariantRecord]) -> None:
        self.directory = directory
        self.records = dict(records)

    @property
    def next_launch(self) -> int:
        """A number that no launch of the processes has had, also before the run was interrupted."""
        return 1 + max((s.launch for record in self.records.values() for s in record.samples), default=-1)

    def put(self, record: VariantRecord) -> None:
        """Take a changed record and save it."""
        self.records[record.name] = record
        self.directory.save_variant(record)

    def update(self, name: str, **changes: Any) -> None:
        """Change fields of a variant's record."""
        self.put(replace(self.records[name], **changes))

    def append(self, name: str, sample: Sample, peak_memory_bytes: int | None) -> None:
        """Add a sample, after which the worker had taken so much memory at most, where that is known."""
        record = self.records[name]
        peak = record.peak_memory_bytes
        if peak_memory_bytes is not None:
            peak = max(peak or 0, peak_memory_bytes)
        self.update(name, samples=(*record.samples, sample), peak_memory_bytes=peak)

    def has(self, name: str, phase: str, number: int, case: Case | None) -> bool:
        """Whether a variant has had this case in this round; None stands for a call over all cases."""
        return any(_is_of(sample, phase, number, case) for sample in self.records[name].samples)

    def has_had(self, name: str, case: Case | None, rounds: range) -> bool:
        """Whether a variant has had this case, or a call over all, in one of these rounds before the confirmation."""
        samples = self.records[name].samples
        return any(s.round in rounds and _is_of(s, INTERLEAVED, s.round, case) for s in samples)

    def lacks(self, name: str, cases: Sequence[Case]) -> list[Case]:
        """Those of `cases` that a variant has had in no round; of what runs all in one call none ever counts as had."""
        return [case for case in cases if not self.has_had(name, case, range(sys.maxsize))]

    def complete(
        self, names: Sequence[str], phase: str, launch: int, rounds: Iterable[int], cases: Sequence[Case]
    ) -> bool:
        """Whether these variants have had every case in these rounds of that launch."""
        numbers = list(rounds)

        def wanted(name: str) -> set[tuple[int, int, str]]:
            own = [ALL_CASES] if self.records[name].settings.one_call else [case.name for case in cases]
            return {(launch, number, case) for number in numbers for case in own}

        return all(
            wanted(name) <= {(s.launch, s.round, s.case) for s in self.records[name].samples if s.phase == phase}
            for name in names
        )

    def drop(self, name: str, phase: str, number: int, case: Case | None) -> None:
        """Drop what an interrupted run left of a case: a sample without its baseline beside it says nothing."""
        self._keep(name, lambda sample: not _is_of(sample, phase, number, case))

    def drop_round(self, name: str, phase: str, number: int) -> None:
        """Drop what an interrupted run left of a round, whose cases and calls must be of one launch."""
        self._keep(name, lambda sample: (sample.phase, sample.round) != (phase, number))

    def drop_launch(self, name: str, phase: str, launch: int) -> None:
        """Drop what a launch that was interrupted left of a phase, with what it was warmed up by."""
        self._keep(name, lambda sample: sample.launch != launch or sample.phase not in (phase, WARMUP))

    def log(self, name: str) -> str:
        """The variant's log, relative to the run directory."""
        return str(self.directory.log(name).relative_to(self.directory.folder))

    def mask(self, name: str, case: Case, first: bool) -> Path:
        """Where a prediction is written: the `first` one of a case is kept."""
        return (self.directory.prediction if first else self.directory.repeat)(name, case)

    def run(self, record: RunRecord, names: Iterable[str] | None = None) -> Run:
        """The run as it stands, of all variants or of those of these `names`."""
        names = record.settings.variants if names is None else names
        return Run(record, tuple(self.records[name] for name in names), self.directory.folder)

    def _keep(self, name: str, wanted: Callable[[Sample], bool]) -> None:
        samples = self.records[name].samples
        kept = tuple(sample for sample in samples if wanted(sample))
        if len(kept) < len(samples):
            self.update(name, samples=kept)


def _is_of(sample: Sample, phase: str, number: int, case: Case | None) -> bool:
    return (sample.phase, sample.round, sample.case) == (phase, number, case.name if case else ALL_CASES)
