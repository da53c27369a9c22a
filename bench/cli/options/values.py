"""What the values of options may be, each a function that argparse calls."""

import argparse
import math
from collections.abc import Callable

from bench.plan.variants.augmentation import FORMS, read_tta
from bench.shard import Shard


def whole(least: int) -> Callable[[str], int]:
    """Whole numbers of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def number(least: float, most: float = float("inf")) -> Callable[[str], float]:
    """Numbers between two bounds; infinity is none."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most or math.isinf(value):
            bounds = f"at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return value

    return parse


_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size(text: str) -> int:
    """``20MiB``: a number of KiB, MiB or GiB, in bytes."""
    amount, unit = text[:-3].strip(), text[-3:]
    if unit not in _SIZES or not amount.replace(".", "", 1).isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, as in 20MiB")
    return int(float(amount) * _SIZES[unit])


def tile(text: str) -> tuple[int, int, int]:
    """``64,64,64``: sides of a tile in voxels."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not three sides in voxels, as in 64,64,64")
    x, y, z = map(int, parts)
    return x, y, z


def window(text: str) -> tuple[float, float]:
    """``-160,240``: two rising intensities in HU."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise argparse.ArgumentTypeError(f"{text!r} is not two rising intensities in HU, as in --window=-160,240")
    return low, high


def fold_numbers(text: str) -> str:
    """``all``, or numbers such as ``0,2,4``."""
    if text != "all" and not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor numbers of folds, as in 0,2,4")
    return text


def augmentation(text: str) -> str:
    """Test-time augmentation as `bench.plan.variants.augmentation` has it."""
    tta = read_tta(text)
    if tta is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {FORMS}")
    return tta


def shard(text: str) -> Shard:
    """``3/8``"""
    try:
        return Shard.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def rounds(text: str) -> int | None:
    """``auto``, which is None, or a number."""
    return None if text == "auto" else whole(1)(text)


def device(text: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    name, _, index = text.partition(":")
    if name not in ("auto", "cpu", "cuda") or (index and (name != "cuda" or not index.isdecimal())):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text
