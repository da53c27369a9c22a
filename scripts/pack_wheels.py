"""Packs the wheels that a machine without network lacks, into pieces that can be copied one by one.

    pip list --format freeze > have.txt                                        on that machine, or typed
    python scripts/pack_wheels.py OUT --have have.txt --python 3.12            here; then copy OUT there, piece by piece
    sh OUT/install.sh FOLDER && export PYTHONPATH="$(realpath FOLDER)"         there

Packed are voxbench's own requirements with those of ``--extra`` and of names given, and what these require in turn, as
far as the machine does not have it in a version that suits. PyTorch is never packed: its CUDA build is the machine's.
"""

import argparse
import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
GLIBC = range(39, 16, -1)  # minor versions of 2.x whose wheels are looked for
NEVER = {"torch", "voxbench"}
INSTALL = """#!/bin/sh
# Installs the wheels beside this file into FOLDER, for PYTHONPATH, without network: sh install.sh FOLDER [PYTHON]
set -e
wheels=$(mktemp -d)
cat "$(dirname "$0")"/wheels.tar.* | tar -x -C "$wheels" -f -
"${2:-python3}" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$1" "$wheels"/*.whl
rm -r "$wheels"
"""


class Wheels:
    """The wheels for a Python of another machine, in `folder`, beyond the packages that it has.

    Attributes:
        have: versions by canonical names.
    """

    def __init__(self, python: str, have: Mapping[str, str], folder: Path) -> None:
        self.have = dict(have)
        self._folder = folder
        self._options = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
        for minor in GLIBC:
            self._options += ["--platform", f"manylinux_2_{minor}_x86_64"]
        self._options += ["--platform", "manylinux2014_x86_64"]
        machine = {
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": "x86_64",
            "os_name": "posix",
        }
        machine |= {"python_version": python, "python_full_version": f"{python}.0"}
        self._environment = {**cast("dict[str, str]", default_environment()), **machine}

    def add(self, wanted: Requirement) -> None:
        """Download a requirement and what it requires in turn, unless the machine has them."""
        name = canonicalize_name(wanted.name)
        if name in NEVER or not self._applies(wanted, ""):
            return
        if name in self.have and wanted.specifier.contains(self.have[name], prereleases=True):
            return
        wheel = self._download(wanted)
        self.have[name] = str(parse_wheel_filename(wheel.name)[1])
        for required in requirements(wheel):
            if any(self._applies(required, extra) for extra in ("", *wanted.extras)):
                required.marker = None
                self.add(required)

    def _applies(self, wanted: Requirement, extra: str) -> bool:
        return wanted.marker is None or wanted.marker.evaluate({**self._environment, "extra": extra})

    def _download(self, wanted: Requirement) -> Path:
        before = set(self._folder.glob("*.whl"))
        asked = f"{wanted.name}{wanted.specifier}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--dest",
            str(self._folder),
            *self._options,
            asked,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        new = set(self._folder.glob("*.whl")) - before
        if done.returncode or len(new) != 1:
            reason = (done.stderr.strip().splitlines() or ["pip left no wheel"])[-1]
            raise SystemExit(f"{asked}: {reason}")
        (wheel,) = new
        for old in before:  # the same package, wanted before in a version that does not suit this one
            if parse_wheel_filename(old.name)[0] == parse_wheel_filename(wheel.name)[0]:
                old.unlink()
        return wheel


def requirements(wheel: Path) -> Iterator[Requirement]:
    """What a wheel requires, by its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    yield from map(Requirement, metadata.get_all("Requires-Dist") or ())


def wanted_by_voxbench(extras: list[str]) -> Iterator[Requirement]:
    """Its requirements, and those of these of its extras."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    yield from map(Requirement, project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            raise SystemExit(f"{extra}: no extra of voxbench; it has {', '.join(project['optional-dependencies'])}")
        for required in map(Requirement, project["optional-dependencies"][extra]):
            if required.name == "voxbench":
                yield from wanted_by_voxbench(sorted(required.extras))
            else:
                yield required


def had(lines: list[str]) -> dict[str, str]:
    """Versions by canonical names, of lines ``name==version``."""
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {canonicalize_name(name.strip()): version.strip() for name, _, version in pairs}


def write_pieces(folder: Path, out: Path, most: int) -> list[Path]:
    """One archive of the wheels in pieces of at most `most` bytes, and what installs it."""
    out.mkdir(parents=True)
    whole = folder / "wheels.tar"
    with tarfile.open(whole, "w") as archive:
        for wheel in sorted(folder.glob("*.whl")):
            archive.add(wheel, wheel.name)
    pieces = list[Path]()
    with whole.open("rb") as file:
        while part := file.read(most):
            pieces.append(out / f"wheels.tar.{len(pieces):03}")
            pieces[-1].write_bytes(part)
    (out / "install.sh").write_text(INSTALL)
    return pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("names", nargs="*", help="further requirements, as pip takes them")
    parser.add_argument("--have", type=Path, help="what `pip list --format freeze` prints on that machine")
    parser.add_argument("--python", default="3.12", help="of that machine (3.12)")
    parser.add_argument("--extra", action="append", default=[], help="of voxbench, such as gpu; may be repeated")
    parser.add_argument("--most-mib", type=int, default=48, help="size of a piece (48)")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there; name a new folder")
    have = had(options.have.read_text().splitlines()) if options.have else {}
    with TemporaryDirectory() as scratch:
        wheels = Wheels(options.python, have, Path(scratch))
        for wanted in (*wanted_by_voxbench(options.extra), *map(Requirement, options.names)):
            wheels.add(wanted)
        for wheel in sorted(Path(scratch).glob("*.whl")):
            print(f"{wheel.stat().st_size / 2**20:7.1f} MiB  {wheel.name}")
        pieces = write_pieces(Path(scratch), options.out, options.most_mib * 2**20)
    print(f"{len(pieces)} pieces in {options.out}; there: sh {options.out}/install.sh FOLDER")


if __name__ == "__main__":
    main()
