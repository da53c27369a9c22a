"""What is kept between runs: built engines and the demo's volumes."""

import os
from pathlib import Path

from bench import demo
from bench.progress import Progress


def cache_folder() -> Path:
    """Where built engines and the demo's volumes are kept between runs: $VOXBENCH_CACHE or the user's cache folder."""
    named = os.environ.get("VOXBENCH_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "voxbench"


def demo_data(progress: Progress, kind: str = "pancreas", cases: int | None = None) -> Path:
    """The demo's made-up volumes of a `kind`, written on first use.

    Abdomens are in a folder of their own, and in another one where more validation `cases` are asked for than it has.
    """
    counts = None
    name = f"demo-{demo.VERSION}"
    if kind == "abdomen":
        name = f"demo-abdomen-{demo.VERSION}"
        if cases is not None and cases > demo.ABDOMEN_COUNTS["validation"]:
            name, counts = f"{name}-{cases}", {**demo.ABDOMEN_COUNTS, "validation": cases}
    folder = cache_folder() / name
    if not folder.is_dir():
        progress.start(f"writing the demo's volumes to {folder}", 1)
        folder.parent.mkdir(parents=True, exist_ok=True)
        demo.write_demo(folder, counts=counts, kind=kind)
    return folder
