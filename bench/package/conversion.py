"""From a variant of a run to what another tool loads, with ``model.json`` beside it.

The refusals are those of a package, and it is whole or not there. A case of the run is predicted again before that, by
the variant itself: what is written is made of the same artefacts or networks.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bench.choices import SERVED
from bench.errors import BenchError, InputError
from bench.package.export import Wanted, export, predict_again, refuse_place, unfinished
from bench.package.formats import mlserver, monai_bundle, onnx_graph, openvino_ir, torchscript, triton
from bench.package.formats.description import Subject, Written, write_description
from bench.package.proof import proof_of
from bench.package.trial import trial
from bench.plan.networks import recorded_paths
from bench.plan.opening import of_run
from bench.progress import Progress
from engines.base import EngineError
from engines.cache import asked
from engines.rewrites import rewritten
from models.errors import CheckpointError, one_line
from models.load import load_models
from reports.records.package import PackageRecord
from reports.records.store import Run, read_run


class Format(Protocol):
    """A module that writes networks in one form."""

    def refuse(self, subject: Subject) -> None:
        """Refuse what has no such form.

        Raises:
            InputError: the variant, or one of its networks, is such.
        """
        ...

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write it into the empty `folder`."""
        ...


FORMATS: Mapping[str, Format] = {
    "onnx": onnx_graph,
    "openvino": openvino_ir,
    "torchscript": torchscript,
    "monai-bundle": monai_bundle,
    "triton": triton,
    "mlserver": mlserver,
}


def convert(folder: Path, wanted: Wanted, name_of_format: str, out: Path, progress: Progress) -> dict[str, Any]:
    """Write a variant of the run in `folder`, whose weights and cases must still be as they were, in another form.

    Returns:
        What ``model.json`` says.

    Raises:
        InputError and its like: it cannot be exported, or not so, or `out` cannot be written to; nothing was written.
        BackendLostError: the variant does not work any more, or gives other masks than the run's.
    """
    if wanted.code and name_of_format not in SERVED:
        raise InputError(f"--code: takes code along in a package, and not with --format {name_of_format}; leave it out")
    form, run = FORMATS[name_of_format], read_run(folder)
    refuse_place(out)
    opening = of_run(folder, wanted.variant, progress).open
    name = opening.name
    proof = proof_of(run, name, unproven=wanted.unproven)
    with unfinished(out) as work:
        packed, record = work / ".package", None
        if name_of_format in SERVED:
            # Before the networks are read below: what code of the user's has imported by then is found again by all
            # that reads them, and would pass for another code than the run's.
            record = export(folder, replace(wanted, variant=name), packed, progress)
        loaded = load_models(recorded_paths(run.record.checkpoint), opening.model_options, opening.widen_to)
        with loaded as models:
            subject = Subject(
                format=name_of_format,
                name=name,
                settings=run.record.settings.variants[name],
                opening=opening,
                models=tuple(rewritten(model, opening.rewrites) for model in models),
                artefacts=(),
                mac_share={},
                details={},
                proof=proof,
                pack=partial(_move, record, packed),
            )
            form.refuse(subject)
            subject = _tried(subject, run, wanted.timeout_s, progress)
            written = _write(form, subject, work)
            return write_description(work, subject, written, datetime.now(UTC).isoformat(timespec="seconds"))


def _move(record: PackageRecord | None, packed: Path, place: Path) -> PackageRecord:
    """Move a package to its place."""
    assert record is not None, "only what a server takes holds a package"
    packed.rename(place)
    return record


def _tried(subject: Subject, run: Run, timeout_s: float, progress: Progress) -> Subject:
    """The same with what a worker built for it, and what that worker gave for a case of the run."""
    opening, task = subject.opening, subject.models[0].task
    with tempfile.TemporaryDirectory() as scratch, trial(opening, timeout_s, Path(scratch) / "log") as tried:
        progress.start("trying it", 1)
        equal = predict_again(run, opening, tried, task, Path(scratch), progress)
        progress.advance("a case of the run")
        evidence = tried.opened.evidence
        return replace(
            subject,
            artefacts=tried.call(asked),
            mac_share=evidence["mac_share"],
            details=evidence["details"],
            proof=replace(subject.proof, equal_cases=equal),
        )


def _write(form: Format, subject: Subject, work: Path) -> Written:
    try:
        return form.write(subject, work)
    except (BenchError, CheckpointError, EngineError, OSError):
        raise
    except Exception as error:  # whatever an exporter raises of a network that it does not know
        raise InputError(
            f"--format {subject.format}: this network cannot be written so ({one_line(error)}); use --format package"
        ) from None
