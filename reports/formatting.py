"""Figures as people read them: sensible digits, units, and words where nothing was measured."""

import shlex
from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil, floor, isfinite, log10
from pathlib import Path

_NOISE = 1e-4  # of the last digit: a bound as near as this to a digit is taken to lie on it
SHOWN = 8  # items of a list that a reader sees at once; the rest are counted, or folded
NOT_MEASURED = "not measured"
NOT_APPLICABLE = "not applicable"  # to this network, whatever the data


def _measured(show: Callable[[float], str]) -> Callable[[float | None], str]:
    """The same of what may not have been measured, which is None or NaN."""

    @wraps(show)
    def shown(value: float | None) -> str:
        return NOT_MEASURED if value is None or not isfinite(value) else show(value)

    return shown


def _fixed(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def _down(value: float, digits: int) -> float:
    return floor(value * 10.0**digits + _NOISE) / 10.0**digits


def _up(value: float, digits: int) -> float:
    return ceil(value * 10.0**digits - _NOISE) / 10.0**digits


def one_line(value: object) -> str:
    """Words from elsewhere without line breaks and the control characters that logs hold."""
    return "".join(c for c in " ".join(str(value).split()) if c.isprintable())


def command_line(*words: object) -> str:
    """``bench report 'my runs/first'``: what a user may type as it stands, whatever is in the names of folders."""
    return shlex.join(map(str, words))


def command_to_resume(folder: Path | None) -> str:
    """``bench run --resume --out runs/first``: what finishes the run in `folder`, or that in any."""
    return command_line("bench", "run", "--resume", "--out", folder or "DIR")


def percent(value: float | None, digits: int = 1) -> str:
    """``81.3 %``"""
    return f"{_fixed(value, digits)} %" if value is not None and isfinite(value) else NOT_MEASURED


@_measured
def at_least(value: float) -> str:
    """``81.2 %``: a lower bound, rounded down, so that no more is said than was shown."""
    return percent(_down(value, 1))


@_measured
def at_most(value: float) -> str:
    """``81.3 %``: an upper bound, rounded up."""
    return percent(_up(value, 1))


def plain_percent(value: float) -> str:
    """``10 %``: a figure that somebody chose."""
    return f"{value:g} %"


@_measured
def seconds(value: float) -> str:
    """``4.21 ms``, ``842 ms``, ``1.24 s``, ``84.2 s``: three significant digits."""
    number, unit = (value * 1e3, "ms") if abs(value) < 0.9995 else (value, "s")
    return f"{number:.{_decimals(number)}f} {unit}"


@_measured
def milliseconds(value: float) -> str:
    """``842``: three significant digits, the unit in the table's head."""
    return f"{value * 1e3:.{_decimals(value * 1e3)}f}"


@_measured
def significant(value: float) -> str:
    """``0.0667``, ``8.42``, ``1,240``: three significant digits at least, the unit in the table's head."""
    digits = _decimals(value) if value == 0 or abs(value) >= 1 else 2 - floor(log10(abs(value)))
    return f"{value:,.{digits}f}"


def _decimals(number: float) -> int:
    return max(0, 2 - next((d for d in (2, 1) if abs(number) >= 10**d), 0))


@_measured
def mebibytes(value: float) -> str:
    """``812 MiB``, ``1.24 GiB``."""
    return f"{value / 2**20:.0f} MiB" if value < 2**30 else f"{value / 2**30:.2f} GiB"


@_measured
def factor(value: float) -> str:
    """``5.35x``"""
    return f"{value:.2f}x"


@_measured
def score(value: float) -> str:
    """``0.962``: a DSC or an F1."""
    return f"{value:.3f}"


@_measured
def agreement(value: float) -> str:
    """``0.9949``, ``1``: a score between two masks, rounded down, so that it never looks better than it is."""
    return "1" if value == 1 else f"{_down(value, 4):.4f}"


@_measured
def change(value: float) -> str:
    """``-0.0012``, ``±0``: a difference of scores; ``-2e-06`` where four digits would show nothing but a sign."""
    if value == 0:  # with a sign too, since `macro-F1 0` reads like a score
        return "±0"
    return f"{value:+.4f}" if abs(value) >= 5e-5 else f"{value:+.0e}"


@_measured
def least_change(value: float) -> str:
    """As `change`, of a lower bound: rounded down."""
    digits = 4 if abs(value) >= 5e-5 or value == 0 else min(300, -floor(log10(abs(value))))
    return change(_down(value, digits))


@_measured
def share(value: float) -> str:
    """``0.019 %``, ``7.3 %``: a fraction in percent, two digits where it is small."""
    if 0 < value < 1e-6:
        return "< 0.0001 %"
    return "0 %" if value == 0 else f"{100 * value:.2g} %" if value < 0.01 else f"{100 * value:.1f} %"


def bounded(estimate: float, low: float, high: float) -> str:
    """``81.3 % [80.6, 82.0]``"""
    if not isfinite(estimate):
        return NOT_MEASURED
    return f"{_fixed(estimate)} %{bounds(low, high)}"


def bounds(low: float, high: float, digits: int = 1) -> str:
    """`` [80.6, 82.0]``: rounded away from each other, to put behind an estimate; empty where there are none."""
    return f" [{_fixed(_down(low, digits), digits)}, {_fixed(_up(high, digits), digits)}]" if isfinite(low) else ""


@_measured
def rate(value: float) -> str:
    """``97.3 GFLOP/s``, ``798 TFLOP/s``: operations a second, two for each multiply-accumulate."""
    number, unit = (value / 1e9, "GFLOP/s") if value < 1e12 else (value / 1e12, "TFLOP/s")
    return f"{number:.{_decimals(number)}f} {unit}"


@_measured
def bandwidth(value: float) -> str:
    """``12.4 GB/s``, ``3.01 TB/s``: decimal bytes a second."""
    number, unit = (value / 1e9, "GB/s") if value < 1e12 else (value / 1e12, "TB/s")
    return f"{number:.{_decimals(number)}f} {unit}"


def count(number: int, noun: str) -> str:
    """``1 case``, ``12 cases``"""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """``a, b, c``: the first `SHOWN`, and how many more there are."""
    more = f"{separator}and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return separator.join(items[:SHOWN]) + more
