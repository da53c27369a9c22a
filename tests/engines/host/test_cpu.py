"""The instruction sets that Linux reports."""

from pathlib import Path

import pytest

from engines.host.cpu import CPU_INFO, instruction_sets, processor

X86 = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx avx2 avx512f avx512_vnni avx512_bf16\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp sve i8mm bf16\n"


@pytest.mark.parametrize(
    ("cpu_info", "expected"),
    [
        (X86, ("AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16")),
        (ARM, ("dot product", "I8MM", "BF16", "SVE")),
        ("flags\t: fpu avx\n", ()),
        ("", ()),
    ],
)
def test_sets_by_linux_names(
    cpu_info: str, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.host.cpu.CPU_INFO", tmp_path / "cpuinfo")
    assert instruction_sets() == ()  # nothing is there yet
    (tmp_path / "cpuinfo").write_text(cpu_info)
    assert instruction_sets() == expected


def test_the_processors_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.cpu.CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert processor() == "arm"
    (tmp_path / "cpuinfo").write_text(X86)
    assert processor() == "A CPU"


@pytest.mark.skipif(not CPU_INFO.exists(), reason="the system has no /proc/cpuinfo")
def test_this_machine_agrees_with_pytorch() -> None:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ("AVX2", "AVX512"):
        assert {"AVX2": "AVX2", "AVX512": "AVX-512"}[capability] in instruction_sets()
