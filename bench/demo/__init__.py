"""Made-up cases, and the checkpoints trained on them: abdominal CT in the quiz layout, the head's MRI in nnU-Net's.

`dataset` writes the folder. `case` draws an abdomen on a `grid`: the `pancreas`, the `organs` around it, the rest of
the `body`, and the `appearance` of each subtype; `brain` draws a head with a tumour.
"""

from collections.abc import Mapping
from pathlib import Path

from bench.demo.case import DrawnCase, draw_case
from bench.demo.dataset import ABDOMEN_COUNTS, COUNTS, write_demo

VERSION = 1  # of the volumes: raise it when the generator draws others, so that kept ones are drawn anew
CHECKPOINT: Path = Path(__file__).with_name("weights") / "checkpoint.pth"
CHECKPOINTS: Mapping[str, Path] = {
    "pancreas": CHECKPOINT,
    "abdomen": CHECKPOINT.with_name("abdomen.pth"),
    "brain": CHECKPOINT.with_name("brain.pth"),
}
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
