"""Kinds of kernels by their names, as a run on an H100 showed them (docs/results/gpu-h100-first/kernels.txt)."""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

# By its path: a module named "scripts" would stay loaded, and stand before a bundle's folder of that name.
script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "kernel_times.py"))
kind_of = script["kind_of"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize256x32x32", "convolution"),
        ("sm90_xmma_dgrad_implicit_gemm_indexed_f16f16_f16f32_f32_nhwckrsc_nhwc", "convolution"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float>", "layout"),
        ("void at::native::batch_norm_collect_statistics_kernel<at::native::Var, c10::Half>", "norm"),
        ("_pool_kernel", "norm"),  # Triton's, which norms and activates as well
        ("void at::native::(anonymous namespace)::max_pool3d_with_indices_single_out_frame<c10::Half>", "pooling"),
        ("_add_kernel", "copy"),  # Triton's, which writes into the concatenation
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("void at::native::vectorized_elementwise_kernel<8, leaky_relu_kernel>", "other"),
    ],
)
def test_kinds_by_name(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def test_all_is_done_on_the_device_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: what would run there notes which is the current one."""
    current, seen = ["cuda:0"], list[str]()

    @contextmanager
    def device(name: str) -> Iterator[None]:
        current.append(name)
        yield
        current.pop()

    def note(*_: object) -> dict[str, object]:
        seen.append(current[-1])
        return {}

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(script["peak"], "measure", note)
    monkeypatch.setitem(script["main"].__globals__, "show", note)
    monkeypatch.setattr(sys, "argv", ["kernel_times.py", "torch-fp32", "torch-half", "--device", "cuda:1"])
    script["main"]()
    assert seen == ["cuda:1"] * 3
