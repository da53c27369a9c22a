"""A package's variant beside the baseline of its run, on cases at hand, timed and judged like any run.

Both are opened from the package alone.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import InputError
from bench.machine import host
from bench.package.document import ARTEFACTS
from bench.package.networks import is_graph
from bench.package.opening import calibration_of, options_of, paths_of
from bench.peers import PEERS
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.plan.variants.variants import row_of
from bench.progress import Progress
from bench.run import start
from bench.worker.messages import Open
from models.reader.container import ONNX
from reports.records.package import PackageRecord

NAME, BASELINE = "package", "baseline"  # of the variant, and of a baseline that is a recipe


def measure(folder: Path, record: PackageRecord, asked: Request, out: Path, progress: Progress) -> Path:
    """Run the variant of the package in `folder` beside its baseline, in the new run directory `out`, a temporary one.

    What is measured comes from the package's `record`; how much of it, where and on which cases, from what was `asked`.

    Raises:
        InputError and its like: as of `bench run`.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    why = _replaced(record)
    plan = make_plan(_of_package(folder, record, asked, why is not None), out.name, now, progress)
    if why is not None:
        progress.note(
            f"the baseline of its run, {record.baseline.backend}, {why}; {plan.record.baseline} takes its place"
        )
    return start(_with_artefacts(plan, folder, record), out, progress, temporary=True)


def _replaced(record: PackageRecord) -> str | None:
    """Why the baseline of its run cannot be opened from the package, so that the usual one is; None where it can.

    Raises:
        InputError: no other one takes its place.
    """
    baseline, tile = record.baseline, record.settings.tile
    if baseline.command is not None or baseline.backend in PEERS:
        return "goes its own way from file to file"
    if not is_graph(record):
        return None
    if tile is not None and baseline.tile != tile:
        raise InputError(
            f"--data: the package holds its network as a graph for tiles of {' x '.join(map(str, tile))}, and the "
            "baseline of its run takes others; leave --data out, or call `bench run` where the network's code is"
        )
    return None if ONNX in row_of(baseline.backend).programs else "needs the network's code"


def _of_package(folder: Path, record: PackageRecord, asked: Request, usual: bool = False) -> Request:
    """`usual`: beside the usual baseline of such a network, and not that of its run."""
    (first, *further), baseline = paths_of(folder, record), record.baseline
    own = baseline.command is None and baseline.backend not in PEERS
    variants = {NAME: replace(record.settings, recipe=True, repeat=1)}
    if baseline.recipe and not usual:  # which has no backend's name
        variants[BASELINE] = baseline
    return replace(
        asked,
        checkpoint=first,
        further_checkpoints=tuple(further),
        model_options=options_of(folder, record),
        device=record.device if asked.device == "auto" else asked.device,
        threads=asked.threads or host.threads_like(record.threads),
        protocol=record.protocol,
        preprocessing=record.preprocessing,
        baseline=None if usual else BASELINE if baseline.recipe else baseline.backend,
        overlap=baseline.overlap if own else record.settings.overlap,
        roi=baseline.roi if own else "none",
        batch=baseline.batch if own else 1,
        tta=baseline.tta if own else record.settings.tta,
        variants=variants,
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
