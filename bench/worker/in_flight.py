"""Which cases a worker has in hand at a moment. It stands in a file, since a process that crashed cannot be asked."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

READ, LABEL, WRITE = STAGES = (0, 1, 2)  # that a case is in
_NUMBER = struct.Struct("<i")
_IDLE = -1


@dataclass(frozen=True)
class InFlight:
    """The number of the case that is being read, of the one the network has, and of the one being written, if any."""

    read: int | None = None
    label: int | None = None
    write: int | None = None

    @classmethod
    def of(cls, path: Path) -> "InFlight":
        """What the file at `path` holds; nothing where there is none."""
        try:
            content = path.read_bytes()
        except OSError:
            return cls()
        if len(content) < len(STAGES) * _NUMBER.size:
            return cls()
        numbers = (_NUMBER.unpack_from(content, stage * _NUMBER.size)[0] for stage in STAGES)
        return cls(*(None if number == _IDLE else number for number in numbers))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all of them, the one that most likely broke the process first."""
        return tuple(number for number in (self.label, self.read, self.write) if number is not None)


class Noted:
    """The worker's end: notes in the file at `path` which case each stage has."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(_NUMBER.pack(_IDLE) * len(STAGES))
        self._file = os.open(path, os.O_WRONLY)

    def note(self, stage: int, number: int | None) -> None:
        os.pwrite(self._file, _NUMBER.pack(_IDLE if number is None else number), stage * _NUMBER.size)

    def close(self) -> None:
        os.close(self._file)
