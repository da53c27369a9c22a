"""Where a forward's time on the GPU goes: its kernels by kind, and what the convolutions reach of the measured peak.

    python scripts/kernel_times.py torch-fused@8 torch-graph        (--width 32, --device cuda)

Random tiles of the demo's size; `--passes` passes under PyTorch's profiler (CUPTI), after as many without. Kernels in
a replayed CUDA graph are seen as well. A profiler slows down what it watches: the shares are meant, not the times.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

import engines
from bench import demo
from bench.machine import peak
from bench.machine.host import physical_threads
from bench.plan.cache import cache_folder
from bench.plan.variants.variants import read_variants
from engines.base import EngineError, Target
from engines.evidence.mac_counter import layers_in
from engines.pytorch.session import traced_events
from models.load import build_model, read_checkpoint
from models.model import Model

# By the names that cuDNN, cuBLAS, CUTLASS, PyTorch and Triton give; the first that fits counts.
KINDS = (
    ("layout", r"nchwToNhwc|nhwcToNchw|transpose|permute|nhwc2|2nhwc|im2col|col2im"),
    ("convolution", r"conv|xmma|cutlass|implicit|dgrad|fprop|gemm|wgmma|winograd|cudnn.*engine|nvjet|sm\d+_"),
    ("norm", r"moments|merge_kernel|apply_kernel|pool_kernel|batch_norm|instance_norm|welford"),
    ("pooling", r"pool"),
    ("copy", r"copy|memcpy|memset|cat|add_kernel|fill"),
)
_COLUMNS = 100  # of a kernel's name that are printed


def kind_of(kernel: str) -> str:
    """Kind of work that a kernel of this name does."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, kernel, re.IGNORECASE)), "other")


def kernel_us(run: Callable[[], object], passes: int) -> Counter[str]:
    """Microseconds of each kernel in one call of `run`, the mean of `passes`."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(passes):
            run()
        torch.cuda.synchronize()
    kernels = Counter[str]()
    for event in traced_events(profiler):
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            kernels[event["name"]] += event["dur"] / passes
    return kernels


def show(name: str, model: Model, target: Target, passes: int, peaks: Mapping[str, tuple[float, str]]) -> None:
    """Print one backend's kernels."""
    engine = engines.load(name)
    available = engine.probe(target)
    if not available.ok:
        print(f"{name}: {available.reason}; {available.fix}")
        return
    x = torch.rand(target.input_shape, device=target.device)
    with engine.open(model, target) as session:
        for _ in range(passes):
            session.infer(x)
        session.sync()
        kernels = kernel_us(lambda: session.infer(x), passes)
        share = session.evidence().mac_share
    flops = 2 * sum(layer.macs for layer in layers_in(model, target.batch, target.tile))
    ideal_us = 1e6 * sum(part * flops / peaks[precision][0] for precision, part in share.items() if precision in peaks)
    kinds = Counter[str]()
    for kernel, us in kernels.items():
        kinds[kind_of(kernel)] += us
    print(f"\n{name}, {target.batch} tile(s): {kinds.total():.0f} us in kernels, {ideal_us:.0f} us at the peak")
    for kind, us in kinds.most_common():
        reached = f", {ideal_us / us:.1%} of the peak" if kind == "convolution" else ""
        print(f"  {us:8.0f} us {us / kinds.total():6.1%}  {kind}{reached}")
    for kernel, us in kernels.most_common(12):
        print(f"  {us:8.0f} us {us / kinds.total():6.1%}  [{kind_of(kernel)}] {kernel[:_COLUMNS]}")


def main() -> None:
    """Measure the backends on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs="+", metavar="NAME[@BATCH]")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    with torch.cuda.device(options.device):  # which is waited for, and on which Triton launches
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Print what the backends' kernels take on the current device."""
    model = build_model(read_checkpoint(demo.CHECKPOINT), widen_to=options.width)
    peaks = peak.measure(options.device, 1)
    reached = ", ".join(f"{precision} {rate / 1e12:.0f}" for precision, (rate, _) in peaks.items())
    print(f"{torch.cuda.get_device_name(options.device)}; largest products, TFLOP/s: {reached}")
    listed = ",".join(options.backends)
    for name, own in read_variants(listed, options.backends[0], roi="none", overlap=0.5, batch=1).items():
        target = Target(
            options.device, model.tile, own.batch, physical_threads(), cache_folder(), channels=model.channels
        )
        try:
            show(own.backend, model, target, options.passes, peaks)
        except (EngineError, RuntimeError) as error:
            print(f"{name}: {' '.join(str(error).split())[:200]}")


if __name__ == "__main__":
    main()
