"""Asks a model server for cases for a long time, and prints the memory of its processes as it goes on.

    python scripts/serving_soak.py --url grpc://127.0.0.1:8001 --model NAME --pid PID --image scan.nii.gz --hours 2

PID is that of the server, whose children count too. The last line says by how much the memory of the last tenth of the
time lies above that of the second tenth: the first fills caches.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.images.anonymous import anonymised
from bench.machine.process_tree import resident_bytes, usage_below
from bench.serving.server import Server

LINES = 60  # that are printed in all


def main() -> int:
    options = _options()
    process = psutil.Process(options.pid)
    files, mask = [anonymised(path)[1] for path in options.image], None
    begun, samples, cases = time.monotonic(), list[tuple[float, int]](), 0
    end, next_line = begun + 3600 * options.hours, 0.0
    with Server(options.url, options.model, 600) as server, ThreadPoolExecutor(options.at_once) as pool:
        while time.monotonic() < end:
            for answer in pool.map(lambda _: server.predict(files), range(options.at_once)):
                cases += 1
                if mask not in (None, answer.mask):
                    print(f"case {cases}: another mask than before", file=sys.stderr)
                    return 1
                mask = answer.mask
            time.sleep(options.pause)
            elapsed = time.monotonic() - begun
            samples.append((elapsed, resident_bytes(process) + usage_below(process)[0]))
            if elapsed >= next_line:
                print(f"{elapsed:8.0f} s {cases:8d} cases {samples[-1][1] / 2**20:8.1f} MiB", flush=True)
                next_line += 3600 * options.hours / LINES
    early, late = (median_between(samples, share) for share in ((0.1, 0.2), (0.9, 1.0)))
    print(
        f"{cases} cases in {samples[-1][0]:.0f} s; resident {early / 2**20:.1f} MiB early, {late / 2**20:.1f} MiB late"
    )
    print(f"grown by {(late - early) / 2**20:.1f} MiB, {1000 * (late - early) / 2**20 / cases:.2f} MiB in 1,000 cases")
    return 0


def median_between(samples: list[tuple[float, int]], shares: tuple[float, float]) -> float:
    """The median memory between two shares of the time."""
    first, last = (share * samples[-1][0] for share in shares)
    return statistics.median([memory for elapsed, memory in samples if first <= elapsed <= last] or [samples[-1][1]])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pid", type=int, required=True, help="process of the server, on this machine")
    parser.add_argument("--image", type=Path, nargs="+", required=True, help="channels of a case")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between as many and the next")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
