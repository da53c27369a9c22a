"""Variants of runs that never were, for what no small run on a CPU gives."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engines
from bench.package.formats.description import Subject
from bench.pipeline.settings import InferenceSettings
from bench.worker.messages import Open
from engines.base import Target
from models.model import Model
from models.options import ModelOptions
from reports.records.package import Proof
from reports.records.record import VariantSettings

BACKEND = "torch-fp32"
PROOF = Proof(
    run="20261128-120000", created="", run_sha256="", verdict="baseline", headline="the baseline", reasons=(),
    baseline=BACKEND, accuracy="reference", shown_by="truth", proven=True, equal_cases=0,
)  # fmt: skip


def _packed(place: Path) -> Any:
    """In the place of a package."""
    place.mkdir()
    return SimpleNamespace(code=False)


def subject_of(
    model: Model, path: Path, cache: Path, name: str = "monai-bundle", backend: str = BACKEND, device: str = "cpu",
    **changed: Any,
) -> Subject:  # fmt: skip
    """The network in `path`, which ran by `backend` with the settings of `model`, but for those that are `changed`."""
    settings = InferenceSettings.of(model, **{"protocol": "sliding-window", "batch": 2, "roi": "none"} | changed)
    target = Target(device, model.tile, settings.batch, 1, cache, channels=model.channels)
    opening = Open(backend, engines.BACKENDS[backend], path, None, ModelOptions(), target, settings)
    own = VariantSettings(backend=backend, roi="none", overlap=settings.overlap, batch=settings.batch)
    return Subject(
        format=name, name=backend, settings=own, opening=opening, models=(model,), artefacts=(),
        mac_share={engines.BACKENDS[backend].precision: 1.0}, details={}, proof=PROOF, pack=_packed,
    )  # fmt: skip
