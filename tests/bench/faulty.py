"""A real engine with a fault, for the harness to notice; FAULT names it where the class does not. Workers import it."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from engines.base import ClassCheck
from engines.pytorch.eager import Eager


class _Session:
    def __init__(self, real, fault):
        self._real = real
        self._fault = fault
        self._built = False
        self._passes = 0

    def infer(self, x):
        self._passes += self._built
        kind, _, value = self._fault.partition("=")
        late = self._passes > 2  # the build, its warm-up and a case or two go well
        match kind:
            case "slow" if self._built:
                time.sleep(float(value))
            case "killed" if late:
                os.kill(os.getpid(), signal.SIGKILL)
            case "hung" if late:
                time.sleep(3600)
            case "hungry" if late:
                torch.empty(1 << 50)
            case "frozen" if late:
                time.perf_counter_ns = int  # always 0, as libraries do that stop the clock for tests
            case "raising" if late:
                raise RuntimeError("the runtime\nbroke")
        segmentation, classification = self._real.infer(x)
        if kind == "overflowing" and late:
            segmentation = segmentation.half() * 65504
        if kind == "shifted":
            segmentation = segmentation.clone()
            segmentation[:, 2] += float(value)
        if kind == "misclassified":
            classification = -classification
        if kind == "eroded":
            labels = segmentation.argmax(1)
            inner = [ndimage.binary_erosion(mask) for mask in (labels > 0).numpy()]
            segmentation = (
                torch.nn.functional.one_hot(labels * torch.from_numpy(np.stack(inner)), 3).movedim(-1, 1).float()
            )
        return segmentation, classification

    @property
    def class_check(self):
        exact = ClassCheck(float("inf"), lambda x: self._real.infer(x)[1])
        return exact if self._fault == "misclassified" else None

    def sync(self):
        self._real.sync()

    def evidence(self):
        self._passes = 0  # asked once, after the warm-up
        self._built = True
        evidence = self._real.evidence()
        return replace(evidence, mac_share={"bf16": 1.0}) if self._fault == "lying" else evidence


class Faulty:
    fault: str | None = None

    def __init__(self, backend):
        self._real = Eager(backend)

    def probe(self, target):
        if self._fault() == "crashing":
            os.kill(os.getpid(), signal.SIGSEGV)
        return self._real.probe(target)

    @contextmanager
    def open(self, model, target):
        with self._real.open(model, target) as session:
            yield _Session(session, self._fault())

    def _fault(self):
        return os.environ["FAULT"] if self.fault is None else self.fault


class Killed(Faulty):
    fault = "killed"


class Hungry(Faulty):
    fault = "hungry"


class Raising(Faulty):
    fault = "raising"


class Frozen(Faulty):
    fault = "frozen"


class Overflowing(Faulty):
    fault = "overflowing"


class Crashing(Faulty):
    fault = "crashing"


class Lying(Faulty):
    fault = "lying"


class Shifted(Faulty):
    fault = "shifted=0.5"


class Slow(Faulty):
    fault = "slow=0.3"


class Late(Faulty):
    fault = "slow=0.12"


class Medium(Faulty):
    fault = "slow=0.045"


class Stuck(Faulty):
    """Never built."""

    @contextmanager
    def open(self, model, target):
        time.sleep(3600)
        yield


class Sociable(Faulty):
    """Built once two of its kind are being built; it notes that and each pass in a file of the folder MEETING."""

    fault = ""

    @contextmanager
    def open(self, model, target):
        self._note("begun")
        while self._events().read_text().count("begun") < 2:
            time.sleep(0.05)
        with self._real.open(model, target) as session:
            yield _Noting(session, self._note)

    def _events(self):
        return Path(os.environ["MEETING"], "events")

    def _note(self, what):
        with self._events().open("a") as file:
            file.write(f"{what} {os.getpid()}\n")


class _Noting(_Session):
    def __init__(self, real, note):
        super().__init__(real, "")
        self._note = note

    def infer(self, x):
        self._note("pass")
        return super().infer(x)
