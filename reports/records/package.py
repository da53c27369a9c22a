"""The document of an exported package: what it holds, how it is run, and what was proved of it. Imports no other room.

A package is a folder whose ``package.json`` is a `PackageRecord`; every other file in it is listed there by its hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.records.record import EvidenceRecord, HostRecord, VariantSettings

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class PackedNetwork:
    """The networks of a package, several for an ensemble.

    Attributes:
        paths: what is read of each, relative to the package; `sha256`: of the weights of each as they are run, of
            graphs of the files.
        code: hash of what makes the function beside the weights.
        architecture, parameters: of the first.
        tile, window, task: what must be said of the files, as on the command line; None where they say it themselves.
    """

    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    code: str
    architecture: str
    parameters: int
    tile: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None
    task: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """A made-up case: the files of its channels, and the mask and class that they give where the package was made."""

    images: tuple[str, ...]
    mask: str
    subtype: int | None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the run that the variant comes from has shown of it.

    Attributes:
        run, created: its name and when it began; `run_sha256`: of its ``run.json``.
        verdict, headline, reasons: of this variant, as `bench check --variant` gives them; of the baseline that it is
            what others were held against.
        baseline: what it was held against.
        accuracy: ``kept``, ``undecided``, ``lost``; of the baseline ``reference``. `shown_by`: against truth, or
            agreement with the baseline.
        proven: the accuracy was kept; else whoever made the package asked for it all the same.
        equal_cases: of the run's cases that the package itself predicted again, with equal classes and masks,
            on CUDA but for the few voxels that other kernels label otherwise.
    """

    run: str
    created: str
    run_sha256: str
    verdict: str
    headline: str
    reasons: tuple[str, ...]
    baseline: str
    accuracy: str
    shown_by: str
    proven: bool
    equal_cases: int


@dataclass(frozen=True, kw_only=True)
class PackageRecord:
    """A variant of a run as it can be taken elsewhere.

    Attributes:
        created: when. version: of voxbench that made it.
        variant: its name in the run; `settings`: what it is made of. `baseline`: what the run's baseline was made of.
        device: ``cpu`` or ``cuda``. precision: in which its backend multiplies.
        protocol, preprocessing, tile: as of the run's settings. threads: of the run, where `settings` and `baseline`
            name none; None in packages that do not say it.
        calibration_sha256: of the training tiles that INT8 ranges come from; None without.
        artefacts: folders of what was built; `left_out`: kinds that are code and built anew where the package runs.
        code: it holds built code, which whoever made it asked for.
        golden: cases to try it with.
        evidence: what ran when it was made. host, versions: of the machine where that was.
        files: every file but this document, relative to the package, with its SHA-256.
    """

    schema: int = SCHEMA
    created: str
    version: str
    variant: str
    settings: VariantSettings
    baseline: VariantSettings
    device: str
    precision: str
    protocol: str
    preprocessing: str
    tile: tuple[int, int, int]
    threads: int | None = None
    network: PackedNetwork
    calibration_sha256: str | None = None
    artefacts: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    code: bool = False
    golden: tuple[GoldenCase, ...] = ()
    proof: Proof
    evidence: EvidenceRecord
    host: HostRecord
    versions: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
