"""What the user names to be timed: recipes and own commands.

A recipe is a backend with a ROI, an overlap, a batch and test-time augmentation of its own, read from a TOML file.

Each table of the file is a recipe; what it leaves out is the run's::

    [int8-foreground]
    backend = "openvino-int8"
    roi = "foreground"
    overlap = 0.25
    batch = 2
    tta = "none"
    rewrites = ["drop-biases"]
    tile = [64, 64, 64]
    margin_mm = 10.0
    streams = 2
    threads = 2
    int8_dice = 0.99

A table with a command is an own command, as ``--command NAME='...'`` is (`bench.commands.command`)::

    [ours]
    command = "python predict.py {image} {mask}"
    mode = "case"
    classes = "{mask}.csv"
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import engines
from bench.choices import MAX_OVERLAP, ROIS
from bench.commands.command import BACKEND, read_command
from bench.errors import InputError
from bench.peers import PEERS
from bench.plan.variants.augmentation import FORMS, OFF, read_tta
from bench.plan.variants.variants import MOST_TILES
from engines.rewrites import REWRITES
from reports.records.record import VariantSettings

BUILT_IN: Path = Path(__file__).with_name("recipes.toml")
MOST_SIDE, MOST_MARGIN_MM, MOST_THREADS = 1024, 200.0, 1024  # beyond these it is a slip of the keyboard
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEYS = (
    "backend", "roi", "overlap", "batch", "tta", "rewrites", "tile", "margin_mm", "streams", "threads", "int8_dice",
)  # fmt: skip
_OF_COMMAND = ("command", "mode", "classes")
_OPTION = re.compile(r"([^=:]*)(?::([^=]*))?=(.*)", re.DOTALL)


def read_recipes(path: Path, roi: str, overlap: float, batch: int, tta: str = OFF) -> dict[str, VariantSettings]:
    """The recipes in `path` by name, in the order they stand there; the other arguments are the run's own settings.

    Raises:
        InputError: it cannot be read, holds no recipe, or one that cannot be.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--recipes: {path}: cannot be read ({error.strerror}); give a TOML file or `builtin`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--recipes: {path}: not a TOML document ({error}); correct it") from None
    if not document:
        raise InputError(f"--recipes: {path}: holds no recipe; write one as [NAME] with backend = ...")
    defaults = {"roi": roi, "overlap": overlap, "batch": batch, "tta": tta}
    return {name: _recipe(f"--recipes: {path}: [{name}]", name, table, defaults) for name, table in document.items()}


def read_commands(options: Sequence[str], roi: str, overlap: float, batch: int) -> dict[str, VariantSettings]:
    """The own commands that ``--command`` names, by name; the other arguments are the run's own settings.

    Raises:
        InputError: one cannot be used, or two have one name.
    """
    commands: dict[str, VariantSettings] = {}
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None:
            raise InputError(f"--command: {option!r}: give NAME='PROGRAM ARGUMENTS', or NAME:server='...'")
        name, mode, line = match.groups()
        where = f"--command {name}"
        _refuse_name(where, name, "a command's")
        if name in commands:
            raise InputError(f"{where}: two commands have this name; choose another")
        record = read_command(where, line, mode)
        commands[name] = VariantSettings(backend=BACKEND, roi=roi, overlap=overlap, batch=batch, command=record)
    return commands


def _refuse_name(where: str, name: str, whose: str) -> None:
    if not _NAME.fullmatch(name) or name in engines.BACKENDS or name in PEERS or name == "all":
        raise InputError(
            f"{where}: cannot be {whose} name; take letters, digits, dots, - and _, and no name of a backend"
        )


def _recipe(where: str, name: str, table: Any, defaults: Mapping[str, Any]) -> VariantSettings:
    if not isinstance(table, dict):
        raise InputError(f"{where}: is a single value; a recipe is a table with backend = ...")
    _refuse_name(where, name, "a recipe's")
    if "command" in table:
        return _command(where, table, defaults)
    if unknown := sorted(table.keys() - set(_KEYS)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    if "backend" not in table:
        raise InputError(f"{where}: names no backend; add backend = with one of {', '.join(engines.BACKENDS)}")
    merged = {**defaults, **table}
    return VariantSettings(
        backend=_one_of(where, "backend", merged["backend"], engines.BACKENDS),
        roi=_one_of(where, "roi", merged["roi"], ROIS),
        overlap=_overlap(where, merged["overlap"]),
        batch=_batch(where, merged["batch"]),
        tta=_tta(where, merged["tta"]),
        rewrites=_rewrites(where, merged.get("rewrites", [])),
        tile=_tile(where, table.get("tile")),
        margin_mm=_number(where, "margin_mm", table.get("margin_mm"), MOST_MARGIN_MM),
        streams=_count(where, "streams", table.get("streams")),
        threads=_count(where, "threads", table.get("threads")),
        int8_dice=_number(where, "int8_dice", table.get("int8_dice"), 1.0),
        recipe=True,
    )


def _command(where: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> VariantSettings:
    if unknown := sorted(table.keys() - set(_OF_COMMAND)):
        raise InputError(f"{where}: unknown key {unknown[0]!r} beside a command; known are {', '.join(_OF_COMMAND)}")
    for key, value in table.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: {key} = {value!r}: give a text")
    record = read_command(where, table["command"], table.get("mode"), table.get("classes", ""))
    return VariantSettings(backend=BACKEND, **{**defaults, "tta": OFF}, command=record)


def _one_of(where: str, key: str, value: Any, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{where}: {key} = {value!r}: unknown; choose from {', '.join(known)}")
    return value


def _overlap(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_OVERLAP:
        raise InputError(f"{where}: overlap = {value!r}: give a share of the tile's side from 0 to {MAX_OVERLAP}")
    return float(value)


def _tile(where: str, value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    sides = value if isinstance(value, list) else []
    if len(sides) != 3 or any(type(side) is not int or not 1 <= side <= MOST_SIDE for side in sides):
        raise InputError(
            f"{where}: tile = {value!r}: give three sides from 1 to {MOST_SIDE} voxels, as in [64, 64, 64]"
        )
    return sides[0], sides[1], sides[2]


def _number(where: str, key: str, value: Any, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise InputError(f"{where}: {key} = {value!r}: give a number from 0 to {most:g}")
    return float(value)


def _count(where: str, key: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_THREADS):
        raise InputError(f"{where}: {key} = {value!r}: give a number from 1 to {MOST_THREADS}")
    return value


def _batch(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_TILES:
        raise InputError(f"{where}: batch = {value!r}: give a number of tiles from 1 to {MOST_TILES}")
    return value


def _tta(where: str, value: Any) -> str:
    tta = read_tta(value) if isinstance(value, str) else None
    if tta is None:
        raise InputError(f"{where}: tta = {value!r}: give {FORMS}")
    return tta


def _rewrites(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or any(name not in REWRITES for name in value):
        raise InputError(f"{where}: rewrites = {value!r}: give a list of {', '.join(REWRITES)}")
    return tuple(name for name in REWRITES if name in value)
