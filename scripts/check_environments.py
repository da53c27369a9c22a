"""Ask pip whether each GPU environment of docs/how-to/gpu.md can be resolved; downloads metadata only.

TensorRT's libraries are the one part that is not on the package index: its source package fetches them from NVIDIA's
when pip asks for its metadata. Where that index is out of reach, `--without-nvidia` puts empty packages of the same
name and version in their place; all else is resolved as it stands.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = "tensorrt_cu13_libs"
SHOWN = (
    "torch", "triton", "torch-tensorrt", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu", "numpy", "nvidia-cudnn-cu13",
    "nvidia-cuda-runtime",
)  # fmt: skip


def main() -> int:
    """Resolve every extra whose name begins with ``gpu``, and print what pip would install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-nvidia", action="store_true", help="do without NVIDIA's package index")
    options = parser.parse_args()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        if options.without_nvidia:
            for version in tensorrt_versions():
                write_empty(Path(folder), version)
        for extra in sorted(name for name in extras if name.startswith("gpu")):
            versions = resolve(extra, Path(folder))
            failed += isinstance(versions, str)
            print(f"{extra:<10} {versions if isinstance(versions, str) else shown(versions)}", flush=True)
    return 1 if failed else 0


def resolve(extra: str, links: Path) -> dict[str, str] | str:
    """Versions by distribution; what pip says, in its last line, where it cannot resolve them."""
    command = [
        sys.executable, "-P", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
        "--find-links", str(links), f"{ROOT}[{extra}]",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"not resolved: {done.stderr.strip().splitlines()[-1]}"
    packages = [package["metadata"] for package in json.loads(done.stdout)["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def shown(versions: dict[str, str]) -> str:
    named = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    return f"{len(versions)} packages: {named}"


def tensorrt_versions() -> list[str]:
    """Those that the index lists."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "index",
        "versions",
        "tensorrt-cu13",
    ]  # before pip 25.1 it has no JSON
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = next(line for line in printed.splitlines() if line.startswith("Available versions:"))
    return listed.partition(":")[2].replace(",", " ").split()


def write_empty(folder: Path, version: str) -> None:
    """A wheel without contents."""
    info = f"{LIBRARIES}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{LIBRARIES}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {LIBRARIES}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


if __name__ == "__main__":
    sys.exit(main())
