"""The backends of a run by name.

``torch-half@4`` is a backend with four tiles in every pass, and a name that is listed twice is two arms,
``torch-fp32`` and ``torch-fp32#2``. A recipe's name stands for what the recipe says. A peer (`bench.peers`) is an
arm by its name alone, and no part of ``all``.
"""

from collections import Counter
from collections.abc import Iterable

import engines
from bench.errors import InputError
from bench.peers import PEERS
from engines.base import Backend
from reports.records.record import RecipeSettings, Settings

ALL = "all"
MOST_TILES = 1024  # in a pass; what fits is the device's matter, but a slip of the keyboard is not asked of it


def backend_names(text: str, baseline: str = engines.BASELINE) -> tuple[str, ...]:
    """Expand a comma-separated list of names, each with ``@BATCH`` behind it or not; ``all`` stands for every backend.

    A name that is listed again becomes ``NAME#2``, a backend of its own. The `baseline` always comes first, whether it
    was named or not.

    Raises:
        InputError: a name that is no backend, or a batch that is no number of tiles.
    """
    listed = [name.strip() for name in text.split(",") if name.strip()]
    names = [name for one in listed for name in _expanded(one)]
    if not names:
        raise InputError(f"--backends: no backend named; choose from all, {', '.join(engines.BACKENDS)}")
    if baseline not in names:
        names.insert(0, baseline)
    names.sort(key=lambda name: name != baseline)
    seen: Counter[str] = Counter()
    arms = []
    for name in names:
        seen[name] += 1
        arms.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(arms)


def _expanded(listed: str) -> list[str]:
    name, at, batch = listed.partition("@")
    if at and not (batch.isdecimal() and 1 <= int(batch) <= MOST_TILES):
        raise InputError(f"--backends: {listed!r}: a batch is a number of tiles from 1 to {MOST_TILES}, as in {name}@4")
    if name != ALL and name not in engines.BACKENDS and name not in PEERS:
        known = ", ".join((*engines.BACKENDS, *PEERS))
        raise InputError(f"--backends: unknown backend {name!r}; choose from all, {known}")
    suffix = f"@{int(batch)}" if at else ""
    return [each + suffix for each in (engines.BACKENDS if name == ALL else (name,))]


def table_name(arm: str) -> str:
    """Name in the table of backends: ``torch-fp32`` for ``torch-fp32@4#2``."""
    return arm.partition("#")[0].partition("@")[0]


def batch_of(arm: str, default: int) -> int:
    """Tiles in every pass of `arm`: 4 for ``torch-fp32@4#2``, `default` where its name says nothing."""
    batch = arm.partition("#")[0].partition("@")[2]
    return int(batch) if batch else default


def settings_of(arm: str, settings: Settings) -> RecipeSettings:
    """What an arm of the run is made of: what its recipe says, or else its name and the run."""
    plain = RecipeSettings(table_name(arm), settings.roi, settings.overlap, batch_of(arm, settings.batch))
    return settings.recipes.get(arm, plain)


def row_of(arm: str, device: str = "cpu") -> Backend:
    """Its row in the table of backends or of peers, as it is on `device`."""
    name = table_name(arm)
    return PEERS[name].on(device) if name in PEERS else engines.BACKENDS[name]


def peers_among(arms: Iterable[str]) -> tuple[str, ...]:
    """Those that are peers."""
    return tuple(arm for arm in arms if table_name(arm) in PEERS)


def required_names(text: str, arms: tuple[str, ...]) -> tuple[str, ...]:
    """Split a comma-separated list of arms that must not be skipped or fail.

    Raises:
        InputError: one of them is not among `arms`.
    """
    required = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in required:
        if name not in arms:
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
