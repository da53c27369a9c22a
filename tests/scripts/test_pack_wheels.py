"""Wheels for a machine without network, packed by pip from a folder of made-up ones, and installed again."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def write_wheel(folder: Path, name: str, version: str, *requires: str, size: int = 0) -> None:
    about = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n#" + os.urandom(size // 2).hex())
        wheel.writestr(f"{about}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """Pack `apple` and its requirements for a machine that has all of voxbench's own."""
    wheels = tmp_path / "index"
    wheels.mkdir()
    write_wheel(
        wheels, "apple", "1.0", "torch", "pear>=2", "plum>=1", 'fig; python_version < "3"', 'date; extra == "all"'
    )
    write_wheel(wheels, "pear", "2.5", size=3 * 2**20)
    write_wheel(wheels, "plum", "1.0")
    write_wheel(wheels, "plum", "1.5")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))

    def call(have: str, *more: str) -> subprocess.CompletedProcess[str]:
        own = ["filelock", "isal", "markdown-it-py", "matplotlib", "nibabel", "nvidia-ml-py", "packaging", "psutil"]
        own += ["rich", "safetensors", "scipy"]
        lines = [*(f"{name}==99" for name in own), "numpy==2.4", "torch==2.11.0+cu130", have]
        (tmp_path / "have.txt").write_text("\n".join(lines))
        command = [sys.executable, str(ROOT / "scripts/pack_wheels.py"), str(tmp_path / "out"), *more]
        command += ["--have", str(tmp_path / "have.txt"), "--most-mib", "1"]
        return subprocess.run(command, capture_output=True, text=True)

    return call


def test_what_is_missing_there_is_packed_in_pieces_and_can_be_installed(pack, tmp_path):
    packed = pack("pear==1.0", "apple")
    assert packed.returncode == 0, packed.stderr
    pieces = sorted((tmp_path / "out").glob("wheels.tar.*"))
    assert len(pieces) > 2
    assert max(piece.stat().st_size for piece in pieces) <= 2**20
    there = tmp_path / "there"
    subprocess.run(["sh", str(tmp_path / "out" / "install.sh"), str(there), sys.executable], check=True)
    assert {path.name for path in there.glob("*.py")} == {"apple.py", "pear.py", "plum.py"}
    assert "version = '1.5'" in (there / "plum.py").read_text()


def test_what_is_there_is_left_out(pack, tmp_path):
    assert "apple" in pack("plum==1.2", "apple").stdout
    subprocess.run(["sh", str(tmp_path / "out" / "install.sh"), str(tmp_path / "there"), sys.executable], check=True)
    assert not (tmp_path / "there" / "plum.py").exists()


@pytest.mark.parametrize(
    ("more", "said"), [(["kiwi>=3"], "kiwi>=3: "), (["--extra", "cake"], "cake: no extra of voxbench")]
)
def test_what_cannot_be_had_is_one_line_and_nothing_is_written(pack, tmp_path, more, said):
    refused = pack("", *more)
    assert refused.returncode == 1
    assert refused.stderr.startswith(said)
    assert not (tmp_path / "out").exists()
