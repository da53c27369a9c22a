"""Made-up abdominal CT cases in the quiz layout, and the checkpoints trained on them.

`dataset` writes the folder, `case` draws one on a `grid`: the `pancreas`, the `organs` around it, the rest of the
`body`, and the `appearance` of each subtype.
"""

from collections.abc import Mapping
from pathlib import Path

from bench.demo.case import DrawnCase, draw_case
from bench.demo.dataset import ABDOMEN_COUNTS, COUNTS, write_demo

VERSION = 1  # of the volumes: raise it when the generator draws others, so that kept ones are drawn anew
CHECKPOINT: Path = Path(__file__).with_name("weights") / "checkpoint.pth"
CHECKPOINTS: Mapping[str, Path] = {"pancreas": CHECKPOINT, "abdomen": CHECKPOINT.with_name("abdomen.pth")}
"""The network for each kind of volumes: one that only ever saw the anatomy around the pancreas finds one everywhere."""

__all__ = [
    "ABDOMEN_COUNTS",
    "CHECKPOINT",
    "CHECKPOINTS",
    "COUNTS",
    "VERSION",
    "DrawnCase",
    "draw_case",
    "write_demo",
]
