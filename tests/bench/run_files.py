"""The samples of a run directory, as JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports.records.store import samples_path


def read_samples(name: str, folder: Path = Path("run")) -> list[dict[str, Any]]:
    return [json.loads(line) for line in samples_path(folder, name).read_text().splitlines()]


def put_samples(name: str, samples: Iterable[dict[str, Any]], folder: Path = Path("run")) -> None:
    samples_path(folder, name).write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
