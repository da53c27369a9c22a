"""Which cases a worker has in hand at a moment. It stands in a file, since a process that crashed cannot be asked."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from bench.machine.side_stream import MOST_READERS

READ, LABEL, WRITE = "read", "label", "write"  # stages that a case is in
PLACES = (LABEL, *(READ,) * MOST_READERS, WRITE)
"""As many cases as a stage may have at a time; the one that most likely broke the process first."""
_NUMBERS = struct.Struct(f"<{len(PLACES)}i")
_NUMBER = struct.Struct("<i")
_IDLE = -1


@dataclass(frozen=True)
class InFlight:
    """The number of the case in each of `PLACES`; None where there is none."""

    places: tuple[int | None, ...] = (None,) * len(PLACES)

    @classmethod
    def of(cls, path: Path) -> "InFlight":
        """What the file at `path` holds; nothing where there is none."""
        try:
            content = path.read_bytes()
        except OSError:
            return cls()
        if len(content) < _NUMBERS.size:
            return cls()
        return cls(tuple(None if number == _IDLE else number for number in _NUMBERS.unpack_from(content)))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all of them, the one that most likely broke the process first."""
        return tuple(number for number in self.places if number is not None)


class Noted:
    """The worker's end: notes in the file at `path` which cases each stage has."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(_NUMBERS.pack(*(_IDLE for _ in PLACES)))
        self._file = os.open(path, os.O_WRONLY)
        self._free = set(range(len(PLACES)))
        self._lock = Lock()

    def take(self, stage: str, number: int) -> int:
        """Note that a stage has a case; returns the place that `leave` wants."""
        with self._lock:
            place = min(place for place in self._free if PLACES[place] == stage)
            self._free.remove(place)
        self._note(place, number)
        return place

    def leave(self, place: int) -> None:
        """Note that the case in this place is no longer there."""
        self._note(place, _IDLE)
        with self._lock:
            self._free.add(place)

    def _note(self, place: int, number: int) -> None:
        os.pwrite(self._file, _NUMBER.pack(number), place * _NUMBER.size)

    def close(self) -> None:
        os.close(self._file)
