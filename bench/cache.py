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


def demo_data(progress: Progress) -> Path:
    """The demo's made-up volumes, written on first use."""
    folder = cache_folder() / f"demo-{demo.VERSION}"
    if not folder.is_dir():
        progress.start(f"writing the demo's volumes to {folder}", 1)
        folder.parent.mkdir(parents=True, exist_ok=True)
        demo.write_demo(folder)
    return folder
