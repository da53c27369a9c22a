"""Kinds of kernels by their names, as a run on an H100 showed them (docs/results/gpu-h100-first/kernels.txt)."""

import runpy
from pathlib import Path

import pytest

# By its path: a module named "scripts" would stay loaded, and stand before a bundle's folder of that name.
kind_of = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "kernel_times.py"))["kind_of"]


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
