"""``model.json`` beside what another tool loads: all that its right use takes and the tool's own files do not say."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engines
from bench import __version__
from bench.errors import InputError
from bench.machine import host
from bench.package.networks import identity_of
from bench.pipeline.settings import InferenceSettings
from bench.worker.messages import Open
from engines.cache import kind_of
from engines.layers import OUTPUTS
from engines.probe import incompatible_reason, ungraphable_reason
from models.model import Model
from reports.records.package import PackageRecord, Proof
from reports.records.record import VariantSettings
from reports.records.store import json_values

FILE, SCHEMA = "model.json", 1
PLANS, DATASET = "plans.json", "dataset.json"  # of a network of nnU-Net
_LIKELIEST = "a voxel has the label of the class whose logit is largest"
_PAINTED = "regions are painted in the order of `painting`, each where its logit is above 0, later over earlier"
_VOTE = (
    "the logits of all tiles are averaged, each weighted by its mean probability of anything but background; the "
    "largest wins"
)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its name, its type as NumPy calls it, its sides."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A variant that is written in another form.

    Attributes:
        format: which one, as on the command line.
        name: of the variant; `settings`: what it is made of.
        opening: how a worker opens it.
        models: its networks, rewritten where it says so; several for an ensemble.
        artefacts: folders of what was built for it.
        mac_share: how much of it ran in which precision; `details`: what else its evidence holds.
        proof: what the run has shown.
        pack: puts the variant as a package into a new folder, and gives its record; only for a server.
    """

    format: str
    name: str
    settings: VariantSettings
    opening: Open
    models: tuple[Model, ...]
    artefacts: tuple[Path, ...]
    mac_share: Mapping[str, float]
    details: Mapping[str, Any]
    proof: Proof
    pack: Callable[[Path], PackageRecord]

    @property
    def model_name(self) -> str:
        """As a server knows it, which takes few characters."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.models[0].task.name}-{self.name}")

    @property
    def precision(self) -> str:
        """In which most of it ran."""
        return max(self.mac_share, key=lambda name: self.mac_share[name], default=self.opening.backend.precision)

    def built(self, kind: str) -> list[Path]:
        """The artefacts of a kind, one for each network; none where the variant has no such."""
        folders = [folder for folder in self.artefacts if kind_of(folder.name) == kind]
        return folders if len(folders) == len(self.models) else []

    def places(self, folder: Path) -> list[Path]:
        """Where each network goes: `folder` itself for a single one."""
        several = len(self.models) > 1
        places = [folder / str(number) if several else folder for number in range(len(self.models))]
        for place in places:
            place.mkdir(exist_ok=True)
        return places


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written of it.

    Attributes:
        networks: files that the tool loads.
        inputs, outputs: of each.
        precision: in which the files hold it.
        hint: OpenVINO's ``INFERENCE_PRECISION_HINT``; None for any other tool.
        code: whoever loads it runs what is in it.
        served: name of the model that runs whole cases; None where there is none.
        remarks: what the tool cannot carry, or must be set to; one line each.
    """

    networks: tuple[Path, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    precision: str
    hint: str | None = None
    code: bool = False
    served: str | None = None
    remarks: tuple[str, ...] = ()


def refuse_without(subject: Subject, backend: str) -> None:
    """Refuse networks that a format cannot hold, which are those that `backend` cannot run.

    Raises:
        InputError: one is such.
    """
    row, target = engines.BACKENDS[backend], subject.opening.target
    for model in subject.models:
        absent = incompatible_reason(row, model.program, target.batch, subject.opening.rewrites)
        absent = absent or ungraphable_reason(row, model.only_python)
        if absent is not None:
            raise InputError(f"--format {subject.format}: as for {backend}, {absent.reason}; {absent.fix}")


def other_precision(subject: Subject, written: str) -> tuple[str, ...]:
    """What is to be said where the files hold another precision than the one that ran."""
    if written == subject.precision or {written, subject.precision} == {"fp32", "tf32"}:
        return ()
    return (
        f"{subject.name} ran in {subject.precision}, which {subject.format} does not carry here: it holds {written}, "
        "whose time and masks the run did not show",
    )


def other_runtime(subject: Subject, *runtimes: str) -> tuple[str, ...]:
    """What is to be said where none of `runtimes`, by the beginnings of their backends' names, is the variant's."""
    if subject.settings.backend.startswith(runtimes):
        return ()
    return (f"the time that the run has shown is that of {subject.settings.backend}, which does not open this",)


def write_plans(subject: Subject, folder: Path) -> None:
    """Write nnU-Net's plans beside a network that needs them."""
    plans = subject.models[0].plans
    if plans is not None:
        (folder / PLANS).write_text(json.dumps(plans.plans, indent=1) + "\n")
        (folder / DATASET).write_text(json.dumps(plans.dataset, indent=1) + "\n")


def write_description(folder: Path, subject: Subject, written: Written, created: str) -> dict[str, Any]:
    """Write ``model.json`` of what lies in `folder`; return what it holds."""
    settings, task = subject.opening.settings, subject.models[0].task
    held = {
        "schema": SCHEMA,
        "format": subject.format,
        "created": created,
        "version": __version__,
        "variant": subject.name,
        "settings": str(subject.settings),
        "networks": [path.relative_to(folder).as_posix() for path in written.networks],
        "ensemble": _ensemble(settings),
        "code": written.code,
        "served": written.served,
        "remarks": (*written.remarks, *_no_class(settings, written)),
        "inputs": [vars(each) for each in written.inputs],
        "outputs": [vars(each) for each in written.outputs],
        "channels": task.channels,
        "preparation": _preparation(settings),
        "tiles": _tiles(settings),
        "labels": _labels(settings, task.labels),
        "classes": {"names": task.classes, "rule": _VOTE} if settings.subtypes else None,
        "precision": {"ran": subject.mac_share, "files": written.precision, "openvino_hint": written.hint},
        "proof": subject.proof,
        "weights_sha256": [identity_of(model) for model in subject.models],
        "versions": host.versions(),
        "files": {name: _size_and_hash(folder / name) for name in sorted(_files(folder))},
    }
    document: dict[str, Any] = json_values(held)
    (folder / FILE).write_text(json.dumps(document, indent=1) + "\n")
    return document


def _ensemble(settings: InferenceSettings) -> str | None:
    if settings.networks == 1:
        return None
    if settings.merged_apart > 1:
        return "the tiles of each network are merged apart, then the logits of all averaged"
    return "the logits of all networks are averaged, tile by tile"


def _preparation(settings: InferenceSettings) -> dict[str, Any]:
    """How an image becomes what tiles are cut from."""
    if settings.plans is not None:
        axes = "as nnU-Net's reader gives them, in the order of transpose_forward"
        files = {"plans": PLANS, "dataset": DATASET, "configuration": settings.plans.configuration}
        return {"by": "nnU-Net's plans", "axes": axes, **files}
    if settings.bundle is not None:
        steps = {"preprocessing": settings.bundle.preprocessing, "postprocessing": settings.bundle.postprocessing}
        return {"by": "MONAI's transforms", "axes": "those of the file, until a transform turns them", **steps}
    axes = "those of the file, as NIfTI has them (x, y, z)"
    return {"by": "window", "axes": axes, "window": settings.window, "mapped_to": [0, 1], "clipped": True}


def _tiles(settings: InferenceSettings) -> dict[str, Any]:
    window = settings.sliding_window
    return {
        "protocol": settings.protocol,
        "as": "monai.inferers.SlidingWindowInferer" if settings.plans is None else "nnunetv2.inference",
        "tile": settings.tile,
        "overlap": settings.overlap,
        "batch": settings.batch,
        "weights": {name: window[name] for name in ("mode", "sigma_scale")},
        "padding": {"mode": window["padding_mode"], "value": window["cval"]},
        "mirrored_axes": settings.mirror_axes,
        "roi": settings.roi,
    }


def _labels(settings: InferenceSettings, names: Mapping[str, int]) -> dict[str, Any]:
    painted = settings.painting is not None
    return {
        "of_outputs": settings.labels,
        "names": names,
        "painting": settings.painting,
        "rule": _PAINTED if painted else _LIKELIEST,
    }


def _no_class(settings: InferenceSettings, written: Written) -> tuple[str, ...]:
    """What is to be said of the second output that networks without classes have all the same, for runtimes."""
    has_none = settings.subtypes == 0 and any(each.name == OUTPUTS[1] for each in written.outputs)
    said = f"the network has no classes: its output {OUTPUTS[1]} is a logit of a voxel, and says nothing of the case"
    return (said,) if has_none else ()


def _files(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _size_and_hash(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
