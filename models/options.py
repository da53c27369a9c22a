"""What the user says about a network, beyond what its file holds."""

from dataclasses import dataclass
from pathlib import Path

from models.task import Task


@dataclass(frozen=True)
class ModelOptions:
    """Options of the command line; None where one was left out.

    Attributes:
        arch: ``FILE.py:FACTORY``, the user's own code that makes the network.
        tile: sides of the tile in voxels.
        window: intensities in HU that preprocessing maps to 0 and 1.
        trust: the one file whose own code may be run, such as that of a TorchScript archive.
        task: what the network is for, where its own file does not say, or says otherwise.
    """

    arch: str | None = None
    tile: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None
    trust: Path | None = None
    task: Task | None = None

    def trusts(self, path: Path) -> bool:
        """Whether the user named `path` with ``--trust``."""
        return self.trust is not None and self.trust.resolve() == path.resolve()
