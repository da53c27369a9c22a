"""From a variant of a run to a package.

It is made in a folder beside its place and gets its name when it is whole. What is in it is tried before that: the
packed network and artefacts predict a case of the run again, and the made-up cases that go along.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import __version__
from bench.data.formats import mask_ending
from bench.errors import BackendLostError, InputError
from bench.machine import host
from bench.package import golden
from bench.package.document import ARTEFACTS, GOLDEN, PROOF, write_package
from bench.package.networks import Packed, pack_networks
from bench.package.proof import proof_of
from bench.package.trial import Trial, allowed_words, differing_voxels, share_allowed, trial
from bench.plan.opening import of_run
from bench.progress import Progress
from bench.schedule.run_directory import RunDirectory
from bench.worker.messages import Open
from engines.cache import DATA, asked, kind_of
from models.task import Task
from reports.records.package import GoldenCase, PackageRecord, Proof
from reports.records.record import EvidenceRecord, VariantRecord
from reports.records.store import RUN_FILE, Run, read_run
from reports.render import markdown_files, render
from reports.summary.summarise import summarise


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to export of a run.

    Attributes:
        variant: its name; None for the run's winner.
        unproven: also where the accuracy was not kept. code: with what was built of it that is code.
        timeout_s: for one step of the worker that tries it.
    """

    variant: str | None = None
    unproven: bool = False
    code: bool = False
    timeout_s: float = 1800.0


def export(folder: Path, wanted: Wanted, out: Path, progress: Progress) -> PackageRecord:
    """Make a package of a variant of the run in `folder`, whose weights and cases must still be as they were.

    Raises:
        InputError and its like: it cannot be exported, or `out` cannot be written to; nothing was written.
        BackendLostError: the packed variant does not work, or gives other masks than the run's.
    """
    run = read_run(folder)
    refuse_place(out)
    opening = of_run(folder, wanted.variant, progress).open
    name = opening.name
    proof = proof_of(run, name, unproven=wanted.unproven)
    with unfinished(out) as work:
        packed = pack_networks(run.record, opening, work)
        opening = _of_package(opening, packed)
        with tempfile.TemporaryDirectory() as scratch, trial(opening, wanted.timeout_s, Path(scratch) / "log") as tried:
            progress.start("trying it", 1 + golden.DRAWN)
            equal = predict_again(run, opening, tried, packed.model.task, Path(scratch), progress)
            progress.advance("a case of the run")
            cases = _golden_cases(packed, tried, work, Path(scratch), progress)
            artefacts, left_out = _copy_artefacts(tried, work, code=wanted.code)
            evidence = EvidenceRecord(**tried.opened.evidence)
        _copy_proof(run, work)
        record = _record(run, opening, packed, replace(proof, equal_cases=equal), evidence)
        code = any(kind_of(artefact) not in DATA for artefact in artefacts)
        return write_package(work, replace(record, artefacts=artefacts, left_out=left_out, code=code, golden=cases))


def _of_package(opening: Open, packed: Packed) -> Open:
    """The same, of the networks in the package."""
    first, *further = packed.paths
    return replace(
        opening,
        checkpoint=first,
        further_checkpoints=tuple(further),
        model_options=packed.options,
        widen_to=None,
        target=replace(opening.target, layers=None),
    )


def _record(run: Run, opening: Open, packed: Packed, proof: Proof, evidence: EvidenceRecord) -> PackageRecord:
    """What a package says of itself, but for its files."""
    settings, target = run.record.settings, opening.target
    return PackageRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        variant=opening.name,
        settings=settings.variants[opening.name],
        baseline=settings.variants[run.record.baseline],
        device=target.device.partition(":")[0],
        precision=opening.backend.precision,
        protocol=settings.protocol,
        preprocessing=settings.preprocessing,
        tile=target.tile,
        threads=settings.threads or host.physical_threads(),  # shards may have had unlike ones
        network=packed.record,
        calibration_sha256=None if target.calibration is None else target.calibration.sha256,
        proof=proof,
        evidence=evidence,
        host=host.describe(target.device),
        versions=host.versions(),
    )


def refuse_place(out: Path) -> None:
    """Refuse to write over anything.

    Raises:
        InputError: `out` is there, and is no empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty; choose another --out")


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it where all went well, and is gone otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot be created ({error.strerror}); choose another --out") from None
    try:
        yield work
        _open_as_new(work)
        work.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); make room or choose another --out") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _open_as_new(folder: Path) -> None:
    """Let those read `folder` and all in it who may read what the user makes anew, such as a server's user.

    Temporary folders, what was built in them and safetensors' files are the user's alone.
    """
    kept_from_others = os.umask(0o077)
    os.umask(kept_from_others)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~kept_from_others)


def predict_again(run: Run, opening: Open, tried: Trial, task: Task, scratch: Path, progress: Progress) -> int:
    """Predict the run's smallest case, and hold it against the run's own prediction; 0 where that is gone.

    Raises:
        BackendLostError: they differ, by more than `share_allowed`.
    """
    assert run.folder is not None, "a run that was read from its folder"
    name, share = opening.name, share_allowed(opening.target.device)
    directory, variant = RunDirectory(run.folder), run.variant(name)
    cases = sorted(run.record.cases, key=lambda case: math.prod(case.shape))
    kept = ((case, directory.prediction(name, case)) for case in cases)
    case, before = next(((case, mask) for case, mask in kept if mask.is_file()), (None, None))
    if case is None or before is None:
        return 0
    again = tried.predict([Path(image) for image in case.images], scratch / f"again{mask_ending(case.image)}")
    differing, voxels = differing_voxels(again.mask, before, task)
    labels = f"labels {differing} of {voxels} voxels of {case.name} otherwise than the run did{allowed_words(share)}"
    if differing > share * voxels or again.subtype != _subtype(variant, case.name):
        raise BackendLostError(
            f"--variant {name}: what would be packed {labels}, class {again.subtype} where it was "
            f"{_subtype(variant, case.name)}; the machine or its software is not what it was: run again, then export"
        )
    if differing:
        progress.note(f"{name}: what is packed {labels}")
    return 1


def _subtype(variant: VariantRecord, case: str) -> int | None:
    """The class that the run's first prediction gave."""
    return next(sample.subtypes[case] for sample in variant.samples if case in sample.subtypes)


def _golden_cases(
    packed: Packed, tried: Trial, work: Path, scratch: Path, progress: Progress
) -> tuple[GoldenCase, ...]:
    """Draw cases, predict them, and keep those with most kinds of labels in them."""
    drawn = []
    for number in range(golden.DRAWN):
        images = golden.write_images(packed.model, number, scratch / str(number))
        answer = tried.predict(images, scratch / str(number) / "mask.nii.gz")
        drawn.append((golden.richness(answer.mask), images, answer))
        progress.advance(f"made-up case {number + 1}")
    drawn.sort(key=lambda each: each[0], reverse=True)
    cases = []
    for number, (_, images, answer) in enumerate(drawn[: golden.KEPT]):
        place = work / GOLDEN / str(number)
        place.mkdir(parents=True)
        for file in (*images, answer.mask):
            shutil.copyfile(file, place / file.name)
        names = [(place / file.name).relative_to(work).as_posix() for file in (*images, answer.mask)]
        cases.append(GoldenCase(images=tuple(names[:-1]), mask=names[-1], subtype=answer.subtype))
    return tuple(cases)


def _copy_artefacts(tried: Trial, work: Path, *, code: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy what was built for it; with `code` also what is code. Return the folders, and the kinds that were left."""
    taken, left = [], []
    for folder in tried.call(asked):
        if kind_of(folder.name) in DATA or code:
            shutil.copytree(folder, work / ARTEFACTS / folder.name)
            taken.append(f"{ARTEFACTS}/{folder.name}")
        else:
            left.append(kind_of(folder.name))
    return tuple(taken), tuple(left)


def _copy_proof(run: Run, work: Path) -> None:
    assert run.folder is not None, "a run that was read from its folder"
    (work / PROOF).mkdir()
    shutil.copyfile(run.folder / RUN_FILE, work / PROOF / RUN_FILE)
    summary = summarise(run)
    documents = {"report.html": render(summary, "html"), "summary.json": render(summary, "json")}
    for name, text in (markdown_files(summary) | documents).items():
        (work / PROOF / name).write_text(text, encoding="utf-8", errors="backslashreplace")
