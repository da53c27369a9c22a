"""The harness: plans a run, lets the backends duel, checks parity and states whether the speedup is real."""

__version__ = "0.1.0"
