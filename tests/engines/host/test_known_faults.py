"""Known faults: which meet what is installed, which refuse a backend, and which are told of."""

from dataclasses import replace
from pathlib import Path

import pytest

from engines import BACKENDS
from engines.base import Target
from engines.host import known_faults
from engines.host.known_faults import KNOWN_FAULTS, present, refusal, words
from engines.probe import check


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of the libraries, to be filled in."""
    versions = {"torch": "2.12.0"}
    monkeypatch.setattr(known_faults, "library_versions", lambda: versions)
    monkeypatch.setattr(known_faults.cpu, "instruction_sets", lambda: ("AVX2", "AMX BF16"))
    return versions


@pytest.mark.parametrize(
    ("versions", "device", "backend", "reason"),
    [
        ({"cudnn": "9.10.2"}, "cuda:1", "torch-half", "cudnn 9.10.2 has a known fault: wrong 3D convolutions in FP16"),
        ({"cudnn": "9.10.2"}, "cuda", "torch-tf32", "a broken kernel for 3D convolutions in TF32"),
        ({"cudnn": "9.10.2"}, "cuda", "torch-fp32", None),
        ({"cudnn": "9.15.1"}, "cuda", "torch-half", None),
        ({"cudnn": "9.7.1"}, "cuda", "torch-half", None),
        ({"torch": "2.9.1+cu128"}, "cuda", "torch-half", None),  # slow, not wrong
        ({"onednn": "3.12.0"}, "cpu", "torch-half", None),  # some shapes only
        ({"cudnn": "9.10.2"}, "cuda", "ort-fp16", None),  # which has another cuDNN
    ],
)
def test_what_would_be_wrong_is_refused(
    installed: dict[str, str], versions: dict[str, str], device: str, backend: str, reason: str | None
) -> None:
    installed.update(versions)
    refused = refusal(BACKENDS[backend], device)
    if reason is None:
        assert refused is None
    else:
        assert refused is not None
        assert reason in str(refused.reason)
        assert "https://" in str(refused.reason)
        assert str(refused.fix).startswith("pip install")


@pytest.mark.parametrize(
    ("versions", "device", "said"),
    [
        ({"torch": "2.9.0"}, "cuda", "torch 2.9.0 has a known fault: cuDNN is switched off for 3D convolutions"),
        ({"onednn": "3.12.0"}, "cpu", "onednn 3.12.0 has a known fault: wrong BF16 convolutions"),
        ({"torch": "2.14.0"}, "cpu", "torch 2.14.0 has a known fault: FP16 matrix products"),
        ({"torch": "not a version", "onednn": "3.11"}, "cpu", ""),
    ],
)
def test_what_is_installed_is_told_of(
    installed: dict[str, str], versions: dict[str, str], device: str, said: str
) -> None:
    installed.update(versions)
    assert "; ".join(map(words, present(device))).startswith(said)
    assert bool(list(present(device))) == bool(said)


def test_a_processor_without_the_instructions_does_not_meet_it(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed["onednn"] = "3.12.0"
    monkeypatch.setattr(known_faults.cpu, "instruction_sets", lambda: ("AVX2",))
    assert not list(present("cpu"))


def test_the_probe_refuses_it(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed["onednn"] = "3.12.0"
    always = tuple(replace(fault, some_shapes=False) for fault in KNOWN_FAULTS)
    monkeypatch.setattr(known_faults, "KNOWN_FAULTS", always)
    target = Target("cpu", (16, 16, 16), 1, 1, tmp_path)
    assert not check(target, BACKENDS["torch-amp"]).ok
    assert check(target, BACKENDS["torch-fp32"]).ok


def test_each_fault_has_its_source() -> None:
    for fault in KNOWN_FAULTS:
        assert fault.source.startswith("https://")
        assert fault.precisions <= {backend.precision for backend in BACKENDS.values()}


def test_the_libraries_here_say_their_versions() -> None:
    versions = known_faults.library_versions()
    assert versions["torch"]
    assert versions["onednn"].count(".") == 2
