"""The table of classes that a command writes, held to be of this call only if it was written in it."""

from collections.abc import Collection, Sequence
from pathlib import Path

from bench.errors import CommandError, InputError


class ClassFile:
    """Make it before the call, and `read` it behind it."""

    def __init__(self, path: Path, names: Sequence[str] = ()) -> None:
        """Where the command writes it, and the `names` by which it may call classes, in their order."""
        self._path, self._names = path, names
        self._before = self._state()

    def read(self, cases: Collection[str]) -> dict[str, int | None]:
        """The class of each of `cases`.

        Raises:
            CommandError: it was not written since, is no such table, or holds no class of one of them.
        """
        from bench.data.class_table import read_class_table  # which imports nibabel; most commands need none

        now = self._state()
        if now is None:
            raise CommandError(f"{self._path}: it wrote no such table of classes")
        if now == self._before:
            raise CommandError(f"{self._path}: it did not write its table of classes, which is that of an earlier call")
        try:
            classes = read_class_table(self._path, cases, self._names).classes
        except (InputError, OSError) as error:
            raise CommandError(str(error)) from None
        missing = sorted(set(cases) - classes.keys())
        if missing:
            raise CommandError(f"{self._path}: holds no class of {missing[0]}")
        return {case: classes[case] for case in cases}

    def _state(self) -> tuple[int, int, int] | None:
        """What changes when it is written."""
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size
