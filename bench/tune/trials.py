"""Measuring a recipe: a worker of its own, and tuning cases in turns with the reference."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import accuracy
from bench.data.volume import MaskValues
from bench.errors import InputError, StorageError
from bench.plan.calibration import Calibrations, calibrate
from bench.plan.networks import Networks
from bench.plan.resumption import recorded_networks
from bench.plan.settings import inference_settings
from bench.plan.variants.variants import row_of
from bench.plan.workers import opens
from bench.progress import Progress
from bench.schedule.interleave import Interleaver, spread_out
from bench.schedule.run_directory import RunDirectory
from bench.schedule.scoring import first_subtypes
from bench.schedule.store import RunStore
from bench.worker.messages import Open
from reports.decision.accuracy import Accuracy, compare_accuracy
from reports.decision.racing import looks
from reports.decision.speed import Speed, interleaved_speed
from reports.decision.tuning import FAILED, PRUNED, Trial, is_beaten, is_lost, judged, timed
from reports.decision.verdict import LOST, Claim
from reports.records.record import INTERLEAVED, OK, PENDING, RUNNING, Case, RunRecord, VariantRecord, VariantSettings
from reports.records.store import Run


@dataclass(frozen=True)
class Shipped:
    """The run over the tuning cases of what is shipped: whose baseline's masks recipes are held against.

    Attributes:
        run: complete.
        reference: by name, the fastest of its variants whose accuracy is expected to be kept, or else not lost.
        evaluated: how many cases will confirm what is found.
    """

    run: Run
    reference: str
    evaluated: int

    @property
    def baseline(self) -> VariantRecord:
        """What accuracy is held against."""
        return self.run.variant(self.run.record.baseline)


class Trials:
    """Measures one recipe after the other; the reference's worker stays open.

    Each is a variant of a run directory, in which the reference is the baseline and each trial has a round of its own.
    """

    def __init__(self, shipped: Shipped, directory: RunDirectory, interleaver: Interleaver, networks: Networks) -> None:
        self._shipped, self._directory, self._interleaver, self._networks = shipped, directory, interleaver, networks
        self._record = record = interleaver.run
        self._variants = dict(record.settings.variants)  # of all trials
        self._reference = self._variants[record.baseline]
        self._claim = Claim.of(record.settings)
        self._cases = spread_out(record.cases, f"{record.settings.seed} tuning")
        self._chunks = (*looks(len(self._cases)), len(self._cases))
        self._calibrations: Calibrations = {}

    def measure(self, number: int, own: VariantSettings, best: Trial | None) -> Trial:
        """Build a recipe, and time and score it; it ends early where it is slower than the `best` beyond doubt."""
        begin = time.monotonic()
        name = f"trial-{number:04d}"
        try:
            trial = self._measured(number, name, own, best)
        except StorageError:  # the next one would fail alike
            raise
        except InputError as error:  # of what this recipe alone asks for
            trial = Trial(number=number, settings=own, state=FAILED, reason=str(error))
        finally:
            if name in self._interleaver.fleet.open_names:
                self._interleaver.fleet.close(name)
            shutil.rmtree(self._directory.predictions(name), ignore_errors=True)  # they are scored
            self._interleaver.store.records.pop(name, None)  # it is saved
        return replace(trial, seconds=time.monotonic() - begin)

    def _measured(self, number: int, name: str, own: VariantSettings, best: Trial | None) -> Trial:
        interleaver, store = self._interleaver, self._interleaver.store
        store.put(VariantRecord(name=name, settings=own))
        self._variants[name] = own
        self._directory.save_run(self._with(self._variants))
        interleaver.extend(self._with({self._record.baseline: self._reference, name: own}), first_round=number)
        interleaver.open_one(self.opening(name, own))
        done = 0
        for until in self._chunks:
            if store.records[name].status == PENDING:
                interleaver.round(INTERLEAVED, number, self._cases[done:until])
            if (failed := store.records[name]).status != PENDING:
                return Trial(number=number, settings=own, state=FAILED, reason=failed.reason or "")
            self._score(name, self._cases[done:until])
            measured, scored, done = self._speed(name), self._accuracy(name), until
            reason = self._hopeless(measured, scored, best)
            if done < len(self._cases) and reason:
                store.update(name, status=OK, left=reason)
                pruned = timed(number, own, PRUNED, reason, measured)
                return replace(pruned, accuracy=LOST) if is_lost(scored, self._claim) else pruned
        store.update(name, status=OK)
        return judged(number, own, measured, scored, self._claim, self._shipped.evaluated)

    def _hopeless(self, measured: Speed, scored: Accuracy, best: Trial | None) -> str:
        """Why a recipe will not be the best; empty where it may."""
        if best is None:  # it is to be measured to the end
            return ""
        if is_beaten(measured, best):
            return f"slower than trial {best.number} beyond doubt"
        return "its accuracy is lost beyond doubt" if is_lost(scored, self._claim) else ""

    def _speed(self, name: str) -> Speed:
        run = self._interleaver.store.run(self._interleaver.run, (self._interleaver.run.baseline, name))
        return interleaved_speed(run, name)

    def _accuracy(self, name: str) -> Accuracy:
        both = (self._shipped.baseline, self._interleaver.store.records[name])
        return compare_accuracy(Run(self._shipped.run.record, both), name)

    def _with(self, variants: Mapping[str, VariantSettings]) -> RunRecord:
        return replace(self._record, settings=replace(self._record.settings, variants=variants))

    def _score(self, name: str, cases: Sequence[Case]) -> None:
        """Add the scores of these cases: against the truth, or the masks of the baseline."""
        store, record = self._interleaver.store, self._shipped.run.record
        subtypes, reference = first_subtypes(store.records[name]), first_subtypes(self._shipped.baseline)
        masks = RunDirectory(_folder_of(self._shipped.run))
        scores = tuple(
            accuracy.score(
                case, record.settings, record.task, record.data.mask_values, store.mask(name, case, first=True),
                masks.prediction(record.baseline, case), subtypes[case.name], reference[case.name],
            )
            for case in cases
        )  # fmt: skip
        store.update(name, scores=(*store.records[name].scores, *scores))

    def opening(self, name: str, own: VariantSettings) -> Open:
        """The request for a worker of a recipe; an INT8 one is calibrated as in every run."""
        record = self._record
        settings = replace(record.settings, variants={name: own})
        inference = inference_settings(settings, self._networks.model, len(self._networks.paths))
        if row_of(own.backend).precision == "int8" and (own.tile or settings.tile) not in self._calibrations:
            values = MaskValues.of(record.task, record.data.mask_values)
            of_tile, _ = calibrate(settings, Path(record.data.root), [], inference, values)  # reads all training cases
            self._calibrations = {**self._calibrations, **of_tile}
        images = [case.image for case in record.cases]
        (opening,) = opens(settings, record.checkpoint, self._networks, inference, self._calibrations, images)
        assert isinstance(opening, Open), "a recipe is no own command"
        return opening


@contextmanager
def opened(shipped: Shipped, folder: Path, timeout_s: float, progress: Progress) -> Iterator[Trials]:
    """The reference, open and ready for trials; `folder` takes their samples.

    `timeout_s`: for a build or a case of a trial, which must not take the time of many others.

    Raises:
        BackendLostError: the reference cannot run any more.
    """
    run = shipped.run
    own = run.variant(shipped.reference).settings
    record = replace(
        run.record,
        settings=replace(run.record.settings, variants={shipped.reference: own}, race=False, timeout_s=timeout_s),
        baseline=shipped.reference,
        peers=(),
        groups=(),
        status=RUNNING,
    )
    directory = RunDirectory.create(folder)
    directory.save_run(record)
    store = RunStore(directory, {shipped.reference: VariantRecord(name=shipped.reference, settings=own)})
    interleaver = Interleaver(store, record, progress)
    trials = Trials(shipped, directory, interleaver, recorded_networks(record))
    try:
        interleaver.open_one(trials.opening(shipped.reference, own))
        yield trials
    finally:
        interleaver.fleet.close_all_but(())


def _folder_of(run: Run) -> Path:
    assert run.folder is not None, "a run of shipped variants is read from its folder"
    return run.folder
