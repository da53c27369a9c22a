"""The backends of a run by name; a name that is listed twice is two arms, ``torch-fp32`` and ``torch-fp32#2``."""

from collections import Counter

import engines
from bench.errors import InputError


def backend_names(text: str) -> tuple[str, ...]:
    """Expand ``all`` or a comma-separated list; a name that is listed again becomes ``NAME#2``, a backend of its own.

    The baseline always comes first, whether it was named or not.

    Raises:
        InputError: a name that is no backend.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        names = list(engines.BACKENDS)
    unknown = [name for name in names if name not in engines.BACKENDS]
    if unknown or not names:
        what = f"unknown backend {unknown[0]!r}" if unknown else "no backend named"
        raise InputError(f"--backends: {what}; choose from all, {', '.join(engines.BACKENDS)}")
    if engines.BASELINE not in names:
        names.insert(0, engines.BASELINE)
    names.sort(key=lambda name: name != engines.BASELINE)
    seen: Counter[str] = Counter()
    arms = []
    for name in names:
        seen[name] += 1
        arms.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(arms)


def table_name(arm: str) -> str:
    """Name in the table of backends: ``torch-fp32`` for ``torch-fp32#2``."""
    return arm.partition("#")[0]


def is_int8(arm: str) -> bool:
    """Whether it must be calibrated."""
    return engines.BACKENDS[table_name(arm)].precision == "int8"


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


def refuse_conflict(arms: tuple[str, ...]) -> None:
    """Refuse to run ONNX Runtime where two distributions of it overwrite each other.

    Raises:
        InputError: both are installed.
    """
    if any(engines.BACKENDS[table_name(name)].module == "onnxruntime" for name in arms):
        from engines.onnxruntime import onnxruntime_conflict

        conflict = onnxruntime_conflict()
        if conflict is not None:
            raise InputError(conflict)
