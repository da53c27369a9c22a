"""A package's variant beside the baseline of its run, on cases at hand, timed and judged like any run.

Both are opened from the package alone.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import engines
from bench.package.document import ARTEFACTS, read_package
from bench.package.opening import calibration_of, options_of, paths_of
from bench.peers import PEERS
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.progress import Progress
from bench.run import start
from bench.worker.messages import Open
from reports.records.package import PackageRecord

NAME = "package"  # of the variant


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What `bench verify --data` asks for; the fields are those of `bench.plan.request.Request`."""

    data: Path
    split: str
    max_cases: int | None
    budget_s: float
    timeout_s: float
    threads: int | None
    device: str
    command: str


def measure(folder: Path, asked: Measurement, out: Path, progress: Progress) -> Path:
    """Run the variant of the package in `folder` beside its baseline, in the new run directory `out`.

    Raises:
        InputError and its like: as of `bench run`.
    """
    record = read_package(folder)
    request = _request(folder, record, asked)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    plan = make_plan(request, out.name, now, progress)
    return start(_with_artefacts(plan, folder, record), out, progress)


def _request(folder: Path, record: PackageRecord, asked: Measurement) -> Request:
    paths, baseline = paths_of(folder, record), record.baseline
    own = baseline.command is None and baseline.backend not in PEERS
    return Request(
        checkpoint=paths[0],
        further_checkpoints=paths[1:],
        model_options=options_of(folder, record),
        data=asked.data,
        split=asked.split,
        max_cases=asked.max_cases,
        budget_s=asked.budget_s,
        timeout_s=asked.timeout_s,
        threads=asked.threads,
        device=record.device if asked.device == "auto" else asked.device,
        command=asked.command,
        protocol=record.protocol,
        preprocessing=record.preprocessing,
        baseline=baseline.backend if own else engines.BASELINE,
        overlap=baseline.overlap if own else record.settings.overlap,
        roi=baseline.roi if own else "none",
        batch=baseline.batch if own else 1,
        tta=baseline.tta if own else record.settings.tta,
        variants={NAME: replace(record.settings, recipe=True, repeat=1)},
    )


def _with_artefacts(plan: Plan, folder: Path, record: PackageRecord) -> Plan:
    """The plan with what the package brings for its variant, in the place of what would be built for the data."""
    prebuilt = (folder / ARTEFACTS).absolute()

    def brought(opening: Open) -> Open:
        target = replace(opening.target, calibration=calibration_of(record), prebuilt=prebuilt)
        return replace(opening, target=target)

    opens = (
        brought(opening) if isinstance(opening, Open) and opening.name == NAME else opening for opening in plan.opens
    )
    return replace(plan, opens=tuple(opens))
