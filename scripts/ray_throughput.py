"""Throughput of `bench predict --ray` with two nodes of one core beside one, and what a node that is killed costs.

    python scripts/ray_throughput.py [--rounds 5] [--cores 0,1] [--backend torch-fp32] [--max-cases 36]

Predicts the demo's validation cases. A node is Ray processes of their own, pinned to a core, with all that they start.
In each round one node on each core and two nodes on both run in random order, each in a new cluster; `bench` itself,
which writes the masks, may run on any core. A throughput is cases by the seconds in which cases ran. A round's ratio
is that of two nodes to the mean of single ones, so that a slower core counts as half of both. In the end a node of two
is killed by SIGKILL once a third of the masks is there, and all masks must be there once, byte by byte as by one node.

Printed are the processor with its instruction sets, a row for each run with the share of the time in which its nodes
had cases and the machine's load before it, and the ratios. Other work on these cores makes a ratio worthless; the share
says even then whether nodes wait for the driver. Exit code 1 where the masks are not as they must be.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.demo import CHECKPOINT
from bench.machine import host
from bench.plan.cache import demo_data
from bench.predict.journal import NAME
from bench.progress import Unshown
from bench.worker.lines import OK, Line

ROOT = Path(__file__).resolve().parents[1]
_EVERY_S = 0.05


@dataclass(frozen=True)
class Run:
    """A call of `bench predict`: its nodes' cores, its cases, its seconds while cases ran and as a whole.

    `busy` is the share of the former in which the nodes had cases: what is left of a core each where none waits.
    """

    cores: tuple[int, ...]
    cases: int
    cases_s: float
    whole_s: float
    busy: float

    @property
    def throughput(self) -> float:
        """Cases a second."""
        return self.cases / self.cases_s


@contextmanager
def cluster(cores: Sequence[int]) -> Iterator[Any]:
    """A node of one core, pinned, for each of these."""
    from ray.cluster_utils import Cluster

    started: Any = Cluster()
    allowed = os.sched_getaffinity(0)
    try:
        for number, core in enumerate(cores):
            os.sched_setaffinity(0, {core})  # what is started has it too
            started.add_node(num_cpus=1, **({"include_dashboard": False} if number == 0 else {}))
        os.sched_setaffinity(0, allowed)
        yield started
    finally:
        os.sched_setaffinity(0, allowed)
        started.shutdown()


def command(address: str, out: Path, images: Path, backend: str) -> list[str]:
    """`bench predict` of the images into `out`, with a report beside it."""
    of_source = ["--backend", backend, "--device", "cpu", "--threads", "1"]
    start = [sys.executable, "-m", "bench", "predict", str(CHECKPOINT), str(images), "--out", str(out)]
    return [*start, *of_source, "--ray", address, "--report", f"{out}.json"]


def call(address: str, out: Path, images: Path, backend: str) -> "subprocess.Popen[bytes]":
    """Start it, its messages in a file beside `out`."""
    with Path(f"{out}.log").open("w") as log:
        return subprocess.Popen(command(address, out, images, backend), stdout=log, stderr=log, cwd=ROOT)


def measured(cores: tuple[int, ...], out: Path, images: Path, backend: str) -> Run:
    """A run on a node for each core."""
    with cluster(cores) as nodes:
        if call(nodes.address, out, images, backend).wait():
            raise SystemExit(Path(f"{out}.log").read_text())
    report = json.loads(Path(f"{out}.json").read_text())
    seconds = report["seconds"]
    busy = sum(row["seconds"] for row in report["nodes"]) / len(cores) / seconds["cases"]
    return Run(cores, report["predicted"], seconds["cases"], seconds["whole"], busy)


def killed(cores: tuple[int, ...], out: Path, images: Path, backend: str, cases: int) -> str:
    """A run whose last node is killed; returned is what it printed."""
    with cluster(cores) as nodes:
        process = call(nodes.address, out, images, backend)
        while process.poll() is None and len(list(out.glob("*.nii.gz"))) < cases // 3:
            time.sleep(_EVERY_S)
        nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
        process.wait()
    return Path(f"{out}.log").read_text()


def differences(out: Path, whole: Path) -> list[str]:
    """What is wrong with the masks and lines of a run beside those of another."""
    lines = [Line.decoded(line) for line in (out / NAME).read_bytes().splitlines()]
    done = sorted(line.mask or "" for line in lines if line is not None and line.status == OK)
    masks = sorted(path.name for path in whole.glob("*.nii.gz"))
    wrong = [] if done == masks else [f"{len(done)} lines of {len(masks)} masks"]
    for name in masks:
        path = out / name
        if not path.is_file() or path.read_bytes() != (whole / name).read_bytes():
            wrong.append(f"{name} is missing or another")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", default="0,1", help="the two that nodes are pinned to")
    parser.add_argument("--backend", default="torch-fp32")
    parser.add_argument("--max-cases", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    first, second = map(int, options.cores.split(","))
    record = host.describe("cpu")
    print(f"{record.processor}; {record.cpu_features}")
    print(f"nodes on the cores {first} and {second}, {host.physical_cores({first, second})} physical, a thread each")
    with TemporaryDirectory(prefix="voxbench-ray-") as scratch:
        images = Path(scratch, "images")
        images.mkdir()
        listed = sorted((demo_data(Unshown()) / "validation").rglob("*_0000.nii.gz"))[: options.max_cases]
        for path in listed:
            (images / path.name).symlink_to(path)
        return _compared(options, (first, second), Path(scratch), images, len(listed))


def _compared(options: argparse.Namespace, cores: tuple[int, int], scratch: Path, images: Path, cases: int) -> int:
    rng, ratios = random.Random(options.seed), list[float]()
    for number in range(options.rounds):
        kinds, runs = [(cores[0],), (cores[1],), cores], dict[tuple[int, ...], Run]()
        rng.shuffle(kinds)
        for kind in kinds:
            load, out = os.getloadavg()[0], scratch / f"{number}-{len(kind)}-{kind[0]}"
            run = runs[kind] = measured(kind, out, images, options.backend)
            print(
                f"round {number}, cores {kind}: {run.cases} cases in {run.cases_s:.1f} s ({run.whole_s:.1f} s with the "
                f"start), {run.throughput:.3f} a second; nodes had cases in {100 * run.busy:.0f} % of the time; load "
                f"before {load:.1f}",
                flush=True,
            )
        alone = statistics.mean(runs[kind].throughput for kind in kinds if len(kind) == 1)
        ratios.append(runs[cores].throughput / alone)
        print(f"round {number}: two nodes are {ratios[-1]:.2f}x as fast as one", flush=True)
    print(f"median {statistics.median(ratios):.2f}x, from {min(ratios):.2f}x to {max(ratios):.2f}x")
    printed = killed(cores, scratch / "killed", images, options.backend, cases)
    wrong = differences(scratch / "killed", scratch / f"0-1-{cores[0]}")
    print(printed.rstrip(), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
