"""`bench predict` over many small made-up cases, killed in between: nothing is lost, half-written or computed twice.

    python scripts/predict_kills.py [--cases 500] [--kills 3] [--width 32] [--backend torch-fp32] [--folder DIR]

First all cases are predicted without an interruption, while the worker's resident memory is read twice a second. Then
they are predicted again into another folder, and `bench` is killed by SIGKILL as often as asked, each time after a
random share of the cases: its process group, and every other time its worker too. The worker of the others must notice
by itself. The same command then goes on.

What must hold: a mask of each case, readable, equal byte by byte to the uninterrupted one; no unfinished file; in the
journal no line of a case that was written after its mask was on disk at a kill. Printed beside it: memory in the first
and in the last quarter of the time, and the share of the time in which the forward ran. Exit code 1 if one does not
hold.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from scipy import ndimage

from bench.data.volume import MaskValues, read_mask, read_space
from bench.predict.journal import NAME
from bench.worker.lines import OK, Line
from models.networks.unet import MultiTaskUNet
from models.task import PANCREAS

ROOT = Path(__file__).resolve().parents[1]
TILE = 32
SIDES = (24, 36)  # of a volume, in voxels
_EVERY_S = 0.5
_PATIENCE_S = 120.0  # for a worker to notice that it is alone


@dataclass
class Findings:
    """What the folders hold, and what is wrong with it, a line each."""

    masks: int = 0
    lines: int = 0
    again: int = 0
    kills: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    forward_share: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def quarters_mb(self) -> tuple[float, float]:
        """Mean resident memory of the worker in the first quarter of the time, and in the last."""
        quarter = max(1, len(self.memory_mb) // 4)
        return mean(self.memory_mb[:quarter]), mean(self.memory_mb[-quarter:])


def make_cases(folder: Path, cases: int, seed: int = 0) -> None:
    """Write small volumes of smooth tissue, of several shapes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(cases):
        shape = rng.integers(SIDES[0], SIDES[1] + 1, 3)
        smooth = ndimage.gaussian_filter(rng.normal(0, 1, shape), 3)
        hu = (400 * smooth / smooth.std()).astype(np.int16)
        image: Any = nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1]))  # type: ignore[no-untyped-call]
        nib.save(image, folder / f"case_{number:04}_0000.nii.gz")


def make_checkpoint(path: Path, width: int) -> None:
    """The reference network with random weights, balanced so that its masks hold all labels."""
    torch.manual_seed(3)
    network = MultiTaskUNet(width).eval()
    with torch.no_grad():
        network.seg_out.bias -= network(torch.rand(1, 1, TILE, TILE, TILE))[0].mean(dim=(0, 2, 3, 4))
    torch.save({"model_state_dict": network.state_dict()}, path)


class Call:
    """`bench predict`, in a process group of its own, and the worker below it."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def worker(self) -> psutil.Process | None:
        """Its worker, once there is one."""
        try:
            children = psutil.Process(self.process.pid).children()
            return next((child for child in children if "bench.worker.server" in child.cmdline()), None)
        except psutil.Error:
            return None

    def kill(self, and_worker: bool) -> None:
        """Kill the group, and the worker with it or not, which has a group of its own; return when all are gone."""
        worker = self.worker()
        if worker is not None and and_worker:
            worker.kill()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if worker is not None:
            worker.wait(_PATIENCE_S)


def command_of(folder: Path, out: Path, options: list[str], report: Path | None = None) -> list[str]:
    """`bench predict` of the cases in `folder` into `out`."""
    start = [sys.executable, "-m", "bench", "predict", str(folder / "model.pth"), str(folder / "images")]
    reported = [] if report is None else ["--report", str(report)]
    return [*start, "--out", str(out), "--tile", f"{TILE},{TILE},{TILE}", *options, *reported]


def uninterrupted(folder: Path, options: list[str], findings: Findings) -> None:
    """Predict all cases in one call, and read the worker's memory meanwhile, from the first mask on."""
    out, report = folder / "whole", folder / "report.json"
    call = Call(command_of(folder, out, options, report), folder / "log")
    while call.process.poll() is None:
        worker = call.worker()
        if worker is not None and any(out.glob("*.nii.gz")):
            with suppress(psutil.Error):
                findings.memory_mb.append(worker.memory_info().rss / 2**20)
        time.sleep(_EVERY_S)
    if call.process.returncode:
        raise SystemExit(f"the uninterrupted call ended with {call.process.returncode}; see {folder / 'log'}")
    findings.forward_share = json.loads(report.read_text())["forward_share"]


def killed(folder: Path, options: list[str], cases: int, kills: int, seed: int, findings: Findings) -> None:
    """Predict all cases in a call that is killed `kills` times, and called again each time."""
    out, rng = folder / "killed", random.Random(seed)
    command, states = command_of(folder, out, options), list[tuple[int, set[str]]]()
    # A random case of each of as many stretches, so that every call comes some way.
    targets = [rng.randrange(cases * n // (kills + 1) + 1, cases * (n + 1) // (kills + 1) + 1) for n in range(kills)]
    for number, target in enumerate(targets):
        call = Call(command, folder / "log")
        while call.process.poll() is None and len(list(out.glob("*.nii.gz"))) < target:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if call.process.poll() is not None:
            raise SystemExit(f"a call ended before it was killed; see {folder / 'log'}")
        call.kill(and_worker=number % 2 == 1)
        masks = {path.name for path in out.glob("*.nii.gz")}
        states.append((len(whole_lines(out)), masks))
        findings.kills.append(len(masks))
    call = Call(command, folder / "log")
    if call.process.wait():
        findings.wrong.append(f"the last call ended with {call.process.returncode}; see {folder / 'log'}")
    _check_journal(out, states, findings)


def whole_lines(out: Path) -> list[bytes]:
    """Of a journal, also behind a kill that cut the last one off."""
    return (out / NAME).read_bytes().split(b"\n")[1:-1]


def _check_journal(out: Path, states: list[tuple[int, set[str]]], findings: Findings) -> None:
    lines = [line for each in whole_lines(out) if (line := Line.decoded(each)) is not None]
    findings.lines = len(lines)
    findings.again = len(lines) - len({line.case for line in lines})
    for kill, (before, masks) in enumerate(states, 1):
        for line in lines[before:]:
            if line.mask in masks:
                findings.wrong.append(f"{line.case}: computed after kill {kill}, when its mask was on disk")
    findings.wrong += [f"{line.case}: {line.status}, {line.reason}" for line in lines if line.status != OK]


def compare(folder: Path, cases: int, findings: Findings) -> None:
    """Hold the masks of both folders against each other, and read each."""
    values, images = MaskValues.of(PANCREAS), folder / "images"
    masks = sorted(path.name for path in (folder / "killed").glob("*.nii.gz"))
    findings.masks = len(masks)
    if len(masks) != cases:
        findings.wrong.append(f"{len(masks)} masks of {cases} cases")
    for name in masks:
        mask = folder / "killed" / name
        read_mask(mask, read_space(images / name.replace(".nii.gz", "_0000.nii.gz")), values)
        if mask.read_bytes() != (folder / "whole" / name).read_bytes():
            findings.wrong.append(f"{name}: not equal to that of the uninterrupted call")
    left = [path.name for path in (folder / "killed").iterdir() if path.name.startswith(".")]
    findings.wrong += [f"{name}: left behind" for name in left]


def prove(
    folder: Path,
    cases: int,
    kills: int,
    width: int,
    options: list[str],
    seed: int = 0,
    whole: Callable[[Path, list[str], Findings], None] = uninterrupted,
) -> Findings:
    """All of it, in an empty `folder`, `whole` being what predicts the cases without an interruption."""
    findings = Findings()
    make_cases(folder / "images", cases, seed)
    make_checkpoint(folder / "model.pth", width)
    whole(folder, options, findings)
    killed(folder, options, cases, kills, seed, findings)
    compare(folder, cases, findings)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--backend", default="torch-fp32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything there (default: a temporary one)")
    arguments = parser.parse_args()
    options = ["--backend", arguments.backend, "--device", "cpu"]
    options += ["--threads", str(arguments.threads)] if arguments.threads else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        begun = time.monotonic()
        findings = prove(folder, arguments.cases, arguments.kills, arguments.width, options, arguments.seed)
    first, last = findings.quarters_mb
    print(f"{arguments.cases} cases, {arguments.backend} at width {arguments.width}, {time.monotonic() - begun:.0f} s")
    print(f"killed with {', '.join(map(str, findings.kills))} masks on disk; {findings.masks} in the end")
    print(f"{findings.lines} lines, {findings.again} of cases whose line had come before their mask's name")
    print(f"resident memory of the worker: {first:.0f} MiB in the first quarter, {last:.0f} MiB in the last")
    print(f"forward: {100 * findings.forward_share:.1f} % of the time")
    print("\n".join(findings.wrong) or "nothing lost, half-written or computed twice")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
