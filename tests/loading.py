"""A model and its checkpoint from a file, for networks that need no import context once they are made."""

from pathlib import Path

from models.load import load_model
from models.model import Model
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint


def load(path: Path, options: ModelOptions | None = None, widen_to: int | None = None) -> tuple[Model, Checkpoint]:
    """Read and build, and leave the context."""
    with load_model(path, options, widen_to) as loaded:
        return loaded
