"""What it costs a pass of plain PyTorch on a CPU that freed memory goes back to the system, and how much that varies.

    python scripts/benchmark_allocator.py [--processes 8] [--passes 25] [--threads 2]

Each figure is a process of its own, `keep` and `system` (see `bench.worker.allocator`) in turn: the demo's network is
warmed up and then timed on one tile. Prints both medians, their ratio, and by how much processes of one kind differ.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from bench import demo
from bench.machine import host
from bench.worker import allocator
from models.load import build_model, read_checkpoint

WARM = 8  # passes


def measure_here(how: str, passes: int, threads: int) -> dict[str, float]:
    """Seconds and page faults of a pass, in this process."""
    if how == allocator.KEEP and not allocator.keep_freed():
        raise SystemExit("this C library cannot keep what is freed")
    torch.set_num_threads(threads)
    model = build_model(read_checkpoint(demo.CHECKPOINTS["pancreas"]))
    x = torch.rand(1, model.channels, *model.tile)
    times = []
    with torch.inference_mode():
        for number in range(WARM + passes):
            if number == WARM:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            start = time.perf_counter()
            model.module(x)
            times.append(time.perf_counter() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"seconds": median(times[WARM:]), "faults": faults / passes}


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """One process after the other, both kinds in turn."""
    processes: dict[str, list[dict[str, Any]]] = {how: [] for how in allocator.ALLOCATORS}
    settings = ["--passes", str(options.passes), "--threads", str(options.threads)]
    for _ in range(options.processes):
        for how, measured in processes.items():
            command = [sys.executable, __file__, "--in-process", how, *settings]
            measured.append(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    return processes


def show(processes: dict[str, list[dict[str, Any]]]) -> None:
    print("| freed memory | a pass, median of the processes | fastest and slowest process | they differ by (SD) "
          "| page faults a pass |\n|---|---:|---:|---:|---:|")  # fmt: skip
    for how, measured in processes.items():
        times = [process["seconds"] for process in measured]
        faults = [process["faults"] for process in measured]
        print(f"| {how} | {median(times):.3f} s | {min(times):.3f} and {max(times):.3f} s "
              f"| {100 * stdev(times) / mean(times):.1f} % | {min(faults):.0f} to {max(faults):.0f} |")  # fmt: skip
    pairs = zip(processes[allocator.KEEP], processes[allocator.SYSTEM], strict=True)
    ratios = sorted(keep["seconds"] / system["seconds"] for keep, system in pairs)
    print(f"\nkeep / system, pair by pair: {median(ratios):.3f} in the median, {ratios[0]:.3f} to {ratios[-1]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8, help="of each kind, two at least")
    parser.add_argument("--passes", type=int, default=25)
    parser.add_argument("--threads", type=int, default=host.physical_threads())
    parser.add_argument("--in-process", choices=allocator.ALLOCATORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(measure_here(options.in_process, options.passes, options.threads)))
    else:
        show(measure(options))


if __name__ == "__main__":
    main()
