"""A real engine that opens twice and no more; STARTED names the file in which its openings are counted."""

import os
from contextlib import contextmanager
from pathlib import Path

from engines.pytorch.eager import Eager


class Unstartable:
    def __init__(self, backend):
        self._real = Eager(backend)

    def probe(self, target):
        return self._real.probe(target)

    @contextmanager
    def open(self, model, target):
        count = Path(os.environ["STARTED"])
        with count.open("a") as file:
            file.write("x")
        if count.stat().st_size > 2:
            raise RuntimeError("no second restart")
        with self._real.open(model, target) as session:
            yield session
