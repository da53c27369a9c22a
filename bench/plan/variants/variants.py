"""The variants of a run by name.

``torch-half@4`` is a backend with four tiles in every pass, and a name that is listed twice is two variants,
``torch-fp32`` and ``torch-fp32#2``. A reference pipeline (`bench.peers`) is a variant by its name alone, and no part of
``all``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import engines
from bench.commands import command
from bench.errors import InputError
from bench.peers import PEERS
from bench.plan.variants.augmentation import OFF
from engines.base import Availability, Backend
from engines.probe import unavailable
from models.model import Model
from reports.records.record import VariantSettings

ALL = "all"
MOST_TILES = 1024  # in a pass; what fits is the device's matter, but a slip of the keyboard is not asked of it


def read_variants(
    text: str,
    baseline: str,
    *,
    roi: str,
    overlap: float,
    batch: int,
    tta: str = OFF,
    own: Mapping[str, VariantSettings] = MappingProxyType({}),
) -> dict[str, VariantSettings]:
    """Expand a comma-separated list of names, each with ``@BATCH`` behind it or not; ``all`` stands for every backend.

    A name that is listed again becomes ``NAME#2``, a variant of its own. Those of the user's `own` come last; with them
    the list may be empty. The `baseline`, any of all these or a further name, always comes first. `roi`, `overlap`,
    `tta` and, where a name says nothing, `batch` are the run's.

    Raises:
        InputError: a name that is no backend, or a batch that is no number of tiles.
    """
    listed = [name.strip() for name in text.split(",") if name.strip()]
    named = [(name, made) for each in listed for name, made in _expanded(each, batch)]
    if not named and not own:
        raise InputError(f"--backends: no backend named; choose from all, {', '.join(engines.BACKENDS)}")
    if baseline not in own:
        first = _baseline(baseline, batch, own)
        baseline = first[0]
        if all(name != baseline for name, _ in named):
            named.insert(0, first)
    repeats: Counter[str] = Counter()
    variants = {}
    for name, (backend, tiles) in named:
        repeats[name] += 1
        repeat = repeats[name]
        variants[name if repeat == 1 else f"{name}#{repeat}"] = VariantSettings(
            backend=backend, roi=roi, overlap=overlap, batch=tiles, tta=tta, repeat=repeat
        )
    variants |= own
    of_baseline = [name for name in variants if name.partition("#")[0] == baseline]
    return {name: variants[name] for name in (*of_baseline, *variants)}


def _baseline(name: str, batch: int, own: Iterable[str]) -> tuple[str, tuple[str, int]]:
    """The baseline's name with backend and batch, where it is none of the user's `own` variants."""
    backend = name.partition("@")[0]
    if backend not in engines.BACKENDS and backend not in PEERS:
        known = ", ".join((*own, *engines.BACKENDS, *PEERS))
        raise InputError(f"--baseline: unknown variant {name!r}; choose from {known}")
    return _expanded(name, batch, "--baseline")[0]


def _expanded(listed: str, default: int, option: str = "--backends") -> list[tuple[str, tuple[str, int]]]:
    """Names with backend and batch."""
    backend, at, batch = listed.partition("@")
    if at and not (batch.isdecimal() and 1 <= int(batch) <= MOST_TILES):
        raise InputError(
            f"{option}: {listed!r}: a batch is a number of tiles from 1 to {MOST_TILES}, as in {backend}@4"
        )
    if backend != ALL and backend not in engines.BACKENDS and backend not in PEERS:
        known = ", ".join((*engines.BACKENDS, *PEERS))
        raise InputError(f"{option}: unknown backend {backend!r}; choose from all, {known}")
    suffix, tiles = (f"@{int(batch)}", int(batch)) if at else ("", default)
    return [(each + suffix, (each, tiles)) for each in (engines.BACKENDS if backend == ALL else (backend,))]


def refuse_no_single(name: str, what: str, without_peers: str) -> None:
    """Refuse a ``--backend`` that names several, or a peer, or nothing that is known.

    `what` is run by one; `without_peers` says why by no peer.

    Raises:
        InputError: so it does.
    """
    backend = name.partition("@")[0]
    if "," in name or backend == ALL:
        raise InputError(f"--backend {name}: {what} is run by one backend; name one")
    if backend in PEERS:
        raise InputError(f"--backend {name}: a peer goes its own way, {without_peers}; use `bench run`")
    if backend not in engines.BACKENDS:
        raise InputError(f"--backend: unknown backend {backend!r}; choose from {', '.join(engines.BACKENDS)}")
    _expanded(name, 1, "--backend")


def row_of(backend: str, device: str = "cpu") -> Backend:
    """Its row in the table of backends or of peers, as it is on `device`; or what stands there for own commands."""
    if backend == command.BACKEND:
        return command.ROW
    return PEERS[backend].on(device) if backend in PEERS else engines.BACKENDS[backend]


def packages_of(variants: Mapping[str, VariantSettings], *, plans: bool, bundle: bool) -> tuple[str, ...]:
    """Distributions whose code runs these variants, by name; those too that are not installed.

    `plans`, `bundle`: nnU-Net's or MONAI's own functions may run around the network.
    """
    names = {"torch", "numpy", "nibabel", "onnxruntime-gpu"}  # the last has the module of the distribution onnxruntime
    names |= {package for own in variants.values() for package in row_of(own.backend).to_build}
    names |= {"nnunetv2"} if plans else set()
    names |= {"monai"} if bundle else set()
    return tuple(sorted(names))


def peers_among(variants: Mapping[str, VariantSettings]) -> tuple[str, ...]:
    """The names of those that are peers."""
    return tuple(name for name, own in variants.items() if own.backend in PEERS)


def roi_absent(roi: str, model: Model) -> Availability | None:
    """Why this ROI strategy cannot be used with the network; None where it can."""
    task, none = model.task, "use --roi none"
    if roi == "none":
        return None
    if model.plans is not None:
        return unavailable("nnU-Net's plans say how a volume is cropped", none)
    if model.bundle is not None:
        return unavailable("the bundle's transforms say how a volume is cropped, and see all of it", none)
    if roi == "body" and not task.channels[0].casefold().startswith("ct"):
        return unavailable(f"body finds tissue by HU, and the first channel is {task.channels[0]}, no CT", none)
    if roi in ("coarse", "foreground") and task.foreground_ml is None:
        return unavailable(
            f"{roi} trusts what the network finds by its volume, and the task {task.name} has no bounds of it",
            "set foreground_ml = [LEAST, MOST] in a file for --task, or use --roi none",
        )
    return None


def setting_absent(own: VariantSettings, backend: Backend, model: Model) -> Availability | None:
    """Why a setting that only recipes have cannot be used with this backend or network; None where all can."""
    is_openvino = "openvino" in backend.runtime.packages
    if own.tile is not None and model.program is not None:
        return unavailable("the checkpoint is a program, whose tile is its own", "leave tile out of this recipe")
    if own.margin_mm is not None and own.roi == "none":
        return unavailable("a margin is around what a ROI finds, and there is none", "add roi, or leave margin_mm out")
    if own.streams is not None and not is_openvino:
        return unavailable("streams are OpenVINO's", "leave streams out of this recipe")
    if own.int8_dice is not None and not (is_openvino and backend.precision == "int8"):
        return unavailable("int8_dice says which layers OpenVINO has in INT8", "use openvino-int8, or leave it out")
    return None


def required_names(text: str, variants: Iterable[str]) -> tuple[str, ...]:
    """Split a comma-separated list of variants that must not be skipped or fail.

    Raises:
        InputError: one of them is not among `variants`.
    """
    required = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in required:
        if name not in variants:
            raise InputError(f"--require: {name!r} is not among the backends of this run; add it to --backends")
    return required


def refuse_conflict(backends: Iterable[str]) -> None:
    """Refuse to run ONNX Runtime where two distributions of it overwrite each other.

    Raises:
        InputError: both are installed.
    """
    if any("onnxruntime" in row_of(name).runtime.packages for name in backends):
        from engines.onnx.runtime import onnxruntime_conflict

        conflict = onnxruntime_conflict()
        if conflict is not None:
            raise InputError(conflict)


def commands_alone(variants: Mapping[str, VariantSettings]) -> bool:
    """Whether own commands are all that is timed."""
    return all(own.command is not None for own in variants.values())
