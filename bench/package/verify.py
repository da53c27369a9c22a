"""Whether a package does here what it did where it was made."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.volume import read_space
from bench.errors import InputError
from bench.machine import host
from bench.package.document import read_package
from bench.package.opening import opening_of
from bench.package.trial import Trial, allowed_words, differing_voxels, share_allowed, trial
from bench.plan.opening import Opening
from bench.progress import Progress
from engines.base import Target
from engines.host import cpu
from reports.formatting import count
from reports.records.package import GoldenCase, PackageRecord

MOST_TILES = 64  # of voxels in a golden case, which `bench.package.golden` draws of two or three tiles
MOST_SHARE = 0.02  # of the multiply-accumulates that may run in another precision


@dataclass(frozen=True)
class Finding:
    """Something that was looked at; `passed` is None where it is a mere remark."""

    what: str
    passed: bool | None
    text: str


@dataclass(frozen=True)
class Verification:
    """A package, and what was seen of it."""

    record: PackageRecord
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return all(finding.passed is not False for finding in self.findings)


def verify(
    folder: Path, device: str, threads: int | None, timeout_s: float, progress: Progress, trust: Path | None = None
) -> Verification:
    """Check hashes, versions, what runs, and the golden cases of the package in `folder`.

    Built code in it is run only where `trust` names the package.

    Raises:
        InputError and its like: it is damaged, or cannot be used here.
        BackendLostError: its backend fails.
    """
    record = read_package(folder)
    opening = opening_of(folder, record, device, threads, trust)
    files = count(len(record.files), "file")
    findings = [Finding("files", True, f"{files}, each with the SHA-256 of the package's document")]
    findings += _machine(record, opening.open.target)
    progress.start("verifying", 1 + len(record.golden))
    with tempfile.TemporaryDirectory() as scratch, trial(opening.open, timeout_s, Path(scratch) / "log") as tried:
        progress.advance(record.variant)
        ran = tried.opened.evidence["mac_share"]
        findings.append(_what_ran(record, ran))
        elsewhere = any(finding.passed is None for finding in findings) or _moved(record, ran) > 0
        share = share_allowed(opening.open.target.device, elsewhere=elsewhere)
        for number, case in enumerate(record.golden):
            findings.append(_golden(folder, number, case, tried, opening, Path(scratch), share))
            progress.advance(f"golden case {number + 1}")
    return Verification(record, tuple(findings))


def _machine(record: PackageRecord, target: Target) -> list[Finding]:
    """Remarks where processor, threads, GPU or software are others than where the package was made.

    Threads share out a sum between them, so that another number of them adds in another order.
    """
    remarks = []
    here, instructions = cpu.processor(), ", ".join(cpu.instruction_sets()) or "none reported"
    if here != record.host.processor:
        remarks.append(Finding("processor", None, f"{here} (made on {record.host.processor})"))
    made_with = record.host.cpu_features or "none reported"
    if instructions != made_with:  # one name may stand for several processors
        remarks.append(Finding("instructions", None, f"{instructions} (made with {made_with})"))
    threads = record.settings.threads or record.threads
    if target.threads != threads:
        made_on = threads or "an unknown number"
        remarks.append(Finding("threads", None, f"{target.threads} (made on {made_on})"))
    if target.on_cuda:
        gpu, made_on = (f"{own.gpu}, driver {own.driver}" for own in (host.describe(target.device), record.host))
        if gpu != made_on:
            remarks.append(Finding("GPU", None, f"{gpu} (made on {made_on})"))
    now = host.versions()  # what is not installed here is not needed, or was asked for already
    other = {name: then for name, then in record.versions.items() if now.get(name, then) != then}
    if other:
        words = ", ".join(f"{name} {now[name]} (made with {then})" for name, then in other.items())
        remarks.append(Finding("versions", None, words))
    return remarks or [Finding("machine", True, f"the processor, threads and versions that it was made with: {here}")]


def _what_ran(record: PackageRecord, share: Mapping[str, float]) -> Finding:
    """Whether as much of the network runs in each precision as did."""
    text, passed = f"multiply-accumulates: {_percents(share)}", _moved(record, share) <= MOST_SHARE
    if not passed:
        text += (
            f"; where it was made {_percents(record.evidence.mac_share)}. More than {100 * MOST_SHARE:g} % run in "
            "another precision, so its time and masks may be others: export it on a machine like this one"
        )
    return Finding("what ran", passed, text)


def _moved(record: PackageRecord, share: Mapping[str, float]) -> float:
    """The largest change of the share that runs in a precision."""
    then = record.evidence.mac_share
    return max((abs(share.get(name, 0) - then.get(name, 0)) for name in {*share, *then}), default=0.0)


def _percents(share: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * part:.1f} % {name}" for name, part in sorted(share.items(), key=lambda item: -item[1]))


def _golden(
    folder: Path, number: int, case: GoldenCase, tried: Trial, opening: Opening, scratch: Path, share: float
) -> Finding:
    """Whether a golden case gives its mask and class; `share`: of its voxels that may be labelled otherwise."""
    images = [folder / image for image in case.images]
    _refuse_large([*images, folder / case.mask], opening)
    answer = tried.predict(images, scratch / f"{number}.nii.gz")
    differing, voxels = differing_voxels(answer.mask, folder / case.mask, opening.task)
    text, allowed = f"{differing} of {voxels} voxels differ{allowed_words(share)}", share * voxels
    if case.subtype is not None:
        same = answer.subtype == case.subtype
        text += f", class {answer.subtype}" + ("" if same else f" where it was {case.subtype}")
        return Finding(f"golden case {number + 1}", differing <= allowed and same, text)
    return Finding(f"golden case {number + 1}", differing <= allowed, text)


def _refuse_large(images: Sequence[Path], opening: Opening) -> None:
    """Refuse images and masks that are no golden case's: a few bytes can unpack to what takes all memory.

    Raises:
        InputError: one is so large, or cannot be read.
    """
    tile = math.prod(opening.open.target.tile)
    for image in images:
        voxels = math.prod(read_space(image).shape)
        if voxels > MOST_TILES * tile:
            raise InputError(
                f"{image}: a golden case of {voxels} voxels, where a tile has {tile}; export the package anew"
            )
