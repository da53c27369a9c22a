"""The frame of all charts: colours that follow the page, text that stays text, and what a screen reader says."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

# Of Okabe and Ito, "Color Universal Design" (2008), which the colour-blind tell apart; darkened where text must be read
# on white. Each is the value on a light page, and no two are equal, so that a page can set its own in the dark.
INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
BASELINE, WINNER, OTHER = "#7a7f86", "#0072b2", "#56b4e9"
KEPT, LOST, UNDECIDED = "#00795a", "#b8480f", "#9a6700"
SERIES = ("#0072b3", "#e69f00", "#009e73", "#cc79a7", "#56b4ea", "#8c6d1f")  # parts of a whole, in their order

VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BASELINE: "baseline", WINNER: "winner", OTHER: "other",
    KEPT: "kept", LOST: "lost", UNDECIDED: "undecided",
} | {colour: f"series-{i}" for i, colour in enumerate(SERIES)}  # fmt: skip
"""The name of each colour's variable in the page's style sheet, without its two dashes."""

DARK = {
    INK: "#e6edf3", MUTED: "#9aa4af", GRID: "#3d444d", PAPER: "#0d1117", BASELINE: "#9aa4ae", WINNER: "#56b4e8",
    OTHER: "#2f81b7", KEPT: "#3fb995", LOST: "#f0883e", UNDECIDED: "#d29922",
} | dict(zip(SERIES, ("#56b4e7", "#f0b429", "#3fb994", "#e29cc4", "#2f81b8", "#c9a94f"), strict=True))  # fmt: skip

_NARROW = 6.0  # ratio of an axis' ends, below which 1, 2 and 5 of each decade may leave it a single tick
WIDTH = 7.2  # inches at 72 points, of a chart over the whole column

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text that can be searched, copied and read aloud
    "svg.hashsalt": "voxbench",  # the same summary gives the same bytes
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names of others may hold a dollar
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
}
_COLOUR = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"(font: [^;\"]*?px |font-family: )[^;\"]+")
_SIZE = re.compile(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"|(<svg )height="[\d.]+pt" width="[\d.]+pt"')


@dataclass(frozen=True)
class Chart:
    """A chart of a report.

    Attributes:
        name: of its file, and its anchor in the page.
        title: what it shows, a few words.
        text: its content in words, for those who do not see it; also the caption.
        svg: one element, ``<svg ...>...</svg>``, as wide as its place; colours are variables with their light values.
    """

    name: str
    title: str
    text: str
    svg: str

    @property
    def file(self) -> str:
        """The chart as an SVG file of its own, which follows the reader's light or dark."""
        # With a ground of its own, since what it is shown on may be of the other kind.
        style = f"{theme()} :root {{ background: var(--paper); }}"
        return self.svg.replace(">", f">\n<style>{style}</style>", 1) + "\n"


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of `WIDTH` by `height` inches with one pair of axes, drawn in the house's style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def chart(figure: Figure, name: str, title: str, text: str) -> Chart:
    """The drawn figure, to be called within its `canvas`."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = _SIZE.sub(lambda m: (m[1] or m[2]) + 'width="100%"', svg, count=1)
    svg = _unique_ids(svg, name)
    svg = _FONT.sub(r"\1system-ui, sans-serif", svg)
    svg = _COLOUR.sub(lambda m: f"var(--{VARIABLES[m[0]]}, {m[0]})", svg)
    described = f'<svg role="img" aria-labelledby="{name}-title {name}-text" '
    words = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(text)}</desc>'
    head, body = svg.removeprefix("<svg ").split(">", 1)
    return Chart(name, title, text, f"{described}{head}>{words}{body}")


def logarithmic_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, several of them however near its ends lie; its limits must be set."""
    low, high = axis.get_view_interval()
    near = high / low < _NARROW
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]) if near else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def theme() -> str:
    """A style sheet with the variables of the charts' colours, in the light and in the dark."""

    def rules(values: dict[str, str]) -> str:
        return " ".join(f"--{VARIABLES[colour]}: {value};" for colour, value in values.items())

    light, dark = rules({colour: colour for colour in VARIABLES}), rules(DARK)
    return f":root {{ {light} }} @media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def _unique_ids(svg: str, name: str) -> str:
    """With ids that no other chart of the page has."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
