"""Feeds generated data sets and networks through `bench run`; what it gives is computed again by other means.

    python scripts/generated_cases.py --data-sets 2000 --networks 300 --seed 0

Every other data set is in order, written in one of the many ways in which usable ones are written; into each of the
others one fault is put. So it is known of each whether it must be run or refused, and which file the refusal names. The
networks are legal Python in all manner of styles, with a fault now and then. Of what is run, masks and classes are
those of MONAI's sliding window over the same network, and DSC and NSD those of MONAI's metrics, the truth resampled by
SimpleITK; macro-F1 is scikit-learn's (`tests/bench/generated`).

Workers are forks (`tests/bench/forked.py`); every `--fresh-every`-th data set has workers as `bench` starts them.
Whatever is not as it must be is a finding: it is printed, its files are kept, and the exit code is 1. Each input
follows from seed and number alone.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `tests`


def _start(folder: Path) -> None:
    import torch

    from tests.bench.generated.short_runs import runs_folder

    torch.set_num_threads(1)
    own = folder / f"process-{os.getpid()}"
    own.mkdir()
    runs_folder(own)


def _data_set(number: int, seed: int, fresh_every: int) -> tuple[str, str, str, list[str], int]:
    from tests.bench.generated.findings import try_data_set

    folder = Path(f"data-set-{number}").absolute()
    folder.mkdir()
    fresh = bool(fresh_every) and number % fresh_every == 0
    result = try_data_set(random.Random(f"{seed} data set {number}"), folder, None if number % 2 else "", not fresh)
    return f"data set {number}", result.kind, result.outcome, result.findings, result.cases


def _network(number: int, seed: int) -> tuple[str, str, str, list[str], int]:
    from tests.bench.generated.findings import network_data, try_network

    folder = Path(f"network-{number}").absolute()
    folder.mkdir()
    result = try_network(random.Random(f"{seed} network {number}"), folder, network_data(Path.cwd()))
    return f"network {number}", result.kind, result.outcome, result.findings, result.cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=2000)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first data set and network")
    parser.add_argument("--fresh-every", type=int, default=100, help="0 for never")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where inputs with findings are kept (a temporary folder)")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="generated-"))
    folder.mkdir(parents=True, exist_ok=True)
    begin, outcomes, cases, findings = time.monotonic(), Counter[tuple[str, str, str]](), 0, 0
    last = options.first + options.data_sets, options.first + options.networks
    with ProcessPoolExecutor(options.processes, get_context("spawn"), _start, (folder.absolute(),)) as pool:
        waiting = [
            *(pool.submit(_data_set, n, options.seed, options.fresh_every) for n in range(options.first, last[0])),
            *(pool.submit(_network, n, options.seed) for n in range(options.first, last[1])),
        ]
        for future in waiting:
            try:
                what, kind, outcome, wrong, checked = future.result()
            except Exception as error:  # of the comparison itself
                what, kind, outcome, wrong, checked = "unknown input", "", "", [f"{type(error).__name__}: {error}"], 0
            outcomes[what.partition(" ")[0], kind, outcome] += 1
            cases += checked
            for finding in wrong:
                print(f"{what} ({kind}): {finding}", flush=True)
            findings += bool(wrong)
    print("\n| input | what is wrong with it | outcome | number |\n|---|---|---|---:|")
    for (what, kind, outcome), count in sorted(outcomes.items()):
        print(f"| {what} | {kind} | {outcome} | {count} |")
    minutes = (time.monotonic() - begin) / 60
    print(
        f"\n{options.data_sets} data sets and {options.networks} networks, seed {options.seed}: {findings} with "
        f"findings; {cases} cases recomputed; {minutes:.1f} minutes in {options.processes} processes"
    )
    if findings:
        print(f"their files are in {folder}")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
