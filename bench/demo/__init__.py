"""Made-up abdominal CT cases in the quiz layout, and the checkpoint trained on them."""

from pathlib import Path

from bench.demo.case import KINDS, Case, draw_case
from bench.demo.dataset import ABDOMEN_COUNTS, COUNTS, write_demo

VERSION = 1  # of the volumes: raise it when the generator draws others, so that kept ones are drawn anew
CHECKPOINT: Path = Path(__file__).with_name("checkpoint.pth")

__all__ = ["ABDOMEN_COUNTS", "CHECKPOINT", "COUNTS", "KINDS", "VERSION", "Case", "draw_case", "write_demo"]
