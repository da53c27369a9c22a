"""The fused network: its Triton kernels interpreted and compiled, its rewriting, and what it does without Triton."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engines
from engines.base import EngineError, Target
from engines.fused import engine, torch_norm
from engines.fused.network import FusedUNet, NormActivation, rewritten
from models.model import Model
from models.networks.unet import MultiTaskUNet, Shape

ROOT = Path(__file__).resolve().parents[3]
LAST = torch.channels_last_3d
# The largest ||output - true|| / ||true||: the kernels sum in float32, a float16 result is rounded once, and 18 norms
# and convolutions in float16 add up.
BOUNDS = {"float32": (1e-5, 1e-4), "float16": (1e-3, 2e-2)}


def errors(seed: int, device: str, dtype: str) -> dict[str, float]:
    pytest.importorskip("triton", reason="Triton is not installed")
    command = [sys.executable, str(ROOT / "tests/engines/fused/kernel_checks.py"), str(seed), device, dtype]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1" if device == "cpu" else "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def check(errors_by_check: dict[str, float], dtype: str) -> None:
    assert len(errors_by_check) == 31
    norm, network = BOUNDS[dtype]
    for name, error in errors_by_check.items():
        assert error < (network if "network" in name else norm), name  # NaN is below nothing


def test_the_kernels_under_the_interpreter() -> None:
    seed = torch.seed() % 2**31
    print(f"seed {seed}")
    check(errors(seed, "cpu", "float32"), "float32")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_kernels_on_the_gpu(dtype: str) -> None:
    check(errors(torch.seed() % 2**31, "cuda", dtype), dtype)


@pytest.mark.parametrize("kernel", ["_moments_kernel", "_apply_kernel", "_pool_kernel", "_add_kernel"])
def test_the_kernels_compile_for_hopper_with_wide_loads(kernel: str) -> None:
    """At the sizes of the widest level; 16 bytes a load is what fills the memory's bandwidth."""
    pytest.importorskip("triton", reason="Triton is not installed")
    ptx = compiled(kernel)
    assert re.search(r"\.target sm_90", ptx)
    loads = re.findall(r"ld\.global\S*", ptx)
    assert any("v4" in load for load in loads)
    assert "ld.local" not in ptx, "registers were spilled"
    if kernel in ("_apply_kernel", "_add_kernel"):
        assert all("v4" in store for store in re.findall(r"st\.global\S*", ptx))


def compiled(kernel: str) -> str:
    from engines.fused import triton_norm

    blocks = {"BLOCK_S": 32 if kernel == "_pool_kernel" else 128, "BLOCK_C": 32}
    return str(for_hopper(getattr(triton_norm, kernel), blocks)["ptx"])


def for_hopper(function: Any, constants: dict[str, Any], **options: int) -> Any:
    """What Triton makes of a kernel for sm_90, by the names of its languages."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    halves, floats = ("x", "weight", "out", "pooled", "bias"), ("moments", "coefficients")
    kinds = dict.fromkeys(halves, "*fp16") | dict.fromkeys(floats, "*fp32") | {"slope": "fp32"}
    kinds |= dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in function.arg_names}
    multiples = {
        (i,): [["tt.divisibility", 16]]  # what Triton finds out by itself when a kernel is launched
        for i, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or (kind == "i32" and name != "chunks")
    }
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=multiples)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm


@pytest.mark.parametrize(("channels_in", "channels_out", "normed"), [(32, 32, False), (32, 32, True), (128, 128, True)])
def test_the_convolution_compiles_for_hopper(channels_in: int, channels_out: int, normed: bool, tmp_path: Path) -> None:
    """Every way that is tried, at the sizes of two levels: matrix instructions of Hopper's own, and no spills."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from engines.fused import triton_conv

    layer = nn.Conv3d(channels_in, channels_out, 3, padding=1)
    for way in triton_conv.ways(layer):
        assembly, used = compiled_convolution(way, channels_in, channels_out, normed, tmp_path)
        assert "HGMMA" in assembly, way
        assert re.search(r"(LDGSTS|LDG)\S*\.128", assembly), way
        assert "STL" not in assembly, way
        assert re.search(r"STACK:0 .*LOCAL:0", used), (way, used)


def compiled_convolution(
    way: tuple[int, ...], channels_in: int, channels_out: int, normed: bool, folder: Path
) -> tuple[str, str]:
    """Machine code of the kernel for sm_90, and what it takes of the multiprocessor, by NVIDIA's own tool."""
    import triton

    from engines.fused import triton_conv

    block_m, block_n, block_k = triton_conv.blocks(way, channels_in, channels_out)
    constants = {"NORMED": normed, "STEPS": channels_in // block_k}
    constants |= {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k}
    made = for_hopper(triton_conv._convolve_kernel, constants, num_warps=way[3], num_stages=way[4])
    (folder / "kernel.cubin").write_bytes(made["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    read = [
        subprocess.run([tool, option, folder / "kernel.cubin"], capture_output=True, text=True, check=True).stdout
        for option in ("--dump-sass", "--dump-resource-usage")
    ]
    return read[0], read[1]


def test_what_triton_compiles_is_kept_with_the_engines(
    target: Callable[..., Target], model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A GPU is missing here, so that the engine gets no further than its kernels."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())

    def compile_one() -> None:
        compiled("_add_kernel")
        raise EngineError("no GPU")

    monkeypatch.setattr(engine, "choose_kernels", compile_one)
    here = target(cache=tmp_path / "cache")
    with pytest.raises(EngineError, match="no GPU"), engines.load("torch-fused").open(model, here):
        pass
    assert list((here.cache / "triton").rglob("*.cubin"))
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "own"), "as before"
    assert not (tmp_path / "own").exists()


def error(output: Tensor, true: Tensor) -> float:
    return float((output.detach().double() - true).norm() / true.norm())


@pytest.mark.parametrize("shape", [Shape(4, 2), Shape(4, 4), Shape(4, 2, channels=2, classes=5, subtypes=0)])
def test_without_triton_the_network_is_the_same(shape: Shape, tiles: Callable[[int, int], Tensor]) -> None:
    network = MultiTaskUNet(shape=shape).eval()
    x = torch.cat([tiles(2, seed) for seed in range(shape.channels)], 1)
    true = copy.deepcopy(network).double()(x.double())
    module = rewritten(network, torch_norm)
    assert isinstance(module, FusedUNet)
    with torch.inference_mode():
        for output, expected in zip(module(x), true, strict=True):
            assert error(output, expected) < 1e-5


def test_any_sequence_of_norm_and_activation_is_fused() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True, eps=1e-3), nn.LeakyReLU(0.2),
        nn.Sequential(nn.Conv3d(4, 3, 3), nn.InstanceNorm3d(3), nn.LeakyReLU(), nn.Conv3d(3, 2, 1)), nn.LeakyReLU(),
    ).eval()  # fmt: skip
    nn.init.normal_(network[1].weight)
    nn.init.normal_(network[1].bias)
    x = torch.rand(2, 1, 8, 9, 10)
    true = copy.deepcopy(network).double()(x.double()).detach()
    module = rewritten(network, torch_norm)
    assert sum(isinstance(part, NormActivation) for part in module.modules()) == 2
    assert [part.bias is None for part in module.modules() if isinstance(part, nn.Conv3d)] == [True, True, False]
    assert error(module(x), true) < 1e-5


def test_a_network_without_such_norms_is_refused() -> None:
    with pytest.raises(EngineError, match="no InstanceNorm3d followed by LeakyReLU"):
        rewritten(nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU()), torch_norm)


@pytest.mark.parametrize("name", ["torch-fused", "torch-graph"])
def test_without_cuda_there_is_a_reason(name: str, target: Callable[..., Target]) -> None:
    for device in ("cpu", *([] if torch.cuda.is_available() else ["cuda"])):
        available = engines.load(name).probe(target(device))
        assert not available.ok
        assert available.reason
        assert available.fix


def test_where_triton_cannot_work_pytorch_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        kernels, reason = engine.choose_kernels()
        assert kernels is torch_norm
        assert "triton cannot start" in reason or "not installed" in reason
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    assert engine.choose_kernels() == (torch_norm, "pytorch: the package triton is not installed")
