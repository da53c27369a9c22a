"""What reading a checkpoint costs: memory and time of `read_checkpoint` against the weights' own bytes.

    python scripts/benchmark_checkpoint.py [--width 32] [--rounds 9]

Makes a reference checkpoint with AdamW state (width 32: 276 MB, of which 92 MB are weights) in a temporary folder.
Each round has two fresh processes, in random order; both import torch and read a small checkpoint first, and find the
file in the page cache. One then reads the checkpoint; the other reads as many bytes as it has weights into a fresh
buffer, in one call. Prints the medians of the rounds' ratios, and their ranges.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from models.networks.unet import MultiTaskUNet

CHILD = """
import gc, json, sys, time
from pathlib import Path
import torch
from models.load import read_checkpoint

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

reader, small, large, size = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
read_checkpoint(small)
gc.collect()
before, start = peak(), time.perf_counter()
if reader == "checkpoint":
    held = read_checkpoint(large)
else:
    held = bytearray(size)
    with large.open("rb", buffering=0) as file:
        file.seek(4096)
        assert file.readinto(held) == size
taken = time.perf_counter() - start
print(json.dumps({"seconds": taken, "bytes": peak() - before}))
"""


def make(path: Path, width: int) -> int:
    """Write the checkpoint; return the bytes of its weights."""
    network = MultiTaskUNet(width)
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    state = network.state_dict()
    torch.save({"epoch": 93, "model_state_dict": state, "optimizer_state_dict": optimizer.state_dict()}, path)
    return sum(tensor.nbytes for tensor in state.values())


def measure(reader: str, small: Path, large: Path, size: int) -> dict[str, float]:
    command = [sys.executable, "-P", "-c", CHILD, reader, str(small), str(large), str(size)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(run.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small.pth", Path(scratch) / "large.pth"
        make(small, 2)
        size = make(large, options.width)
        print(f"checkpoint {large.stat().st_size / 1e6:.1f} MB, weights {size / 1e6:.1f} MB, {options.rounds} rounds")
        large.read_bytes()  # into the page cache
        rounds = []
        for number in range(options.rounds):
            order = random.Random(number).sample(["checkpoint", "plain"], 2)
            rounds.append({reader: measure(reader, small, large, size) for reader in order})
    grown = [each["checkpoint"]["bytes"] / size for each in rounds]
    taken = [each["checkpoint"]["seconds"] / each["plain"]["seconds"] for each in rounds]
    plain, ours = (1e3 * median(each[reader]["seconds"] for each in rounds) for reader in ("plain", "checkpoint"))
    print(f"{'':28}{'median':>8}{'lowest':>8}{'highest':>9}{'at most':>9}")
    for name, ratios, limit in (("memory / bytes of weights", grown, 1.3), ("time / reading those bytes", taken, 1.5)):
        print(f"{name:28}{median(ratios):8.3f}{min(ratios):8.3f}{max(ratios):9.3f}{limit:9.1f}")
    print(f"read_checkpoint {ours:.0f} ms, plainly reading {plain:.0f} ms (medians)")


if __name__ == "__main__":
    main()
