"""Generated networks: legal Python in all the ways in which people write theirs, and the files they keep weights in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

BODIES = {
    "plain": ("self.body = nn.Conv3d(1, 4, 3, padding=1)", "h = self.body(x)"),
    "strided": ("self.down, self.up = nn.Conv3d(1, 4, 2, stride=2), nn.ConvTranspose3d(4, 4, 2, stride=2)",
                "h = self.up(F.relu(self.down(x)))"),
    "functional": ("self.weight = nn.Parameter(torch.randn(4, 1, 3, 3, 3) * .2)",
                   "h = F.conv3d(x, self.weight, padding=1)"),
    "functional transposed": ("a, b = torch.randn(4, 1, 2, 2, 2), torch.randn(4, 4, 2, 2, 2) * .2; "
                              "self.a, self.b = nn.Parameter(a), nn.Parameter(b)",
                              "h = F.conv_transpose3d(F.conv3d(x, self.a, stride=2), self.b, stride=2)"),
    "pooled": ("self.body = nn.Sequential(nn.MaxPool3d(2), nn.Conv3d(1, 4, 1))",
               "h = F.interpolate(self.body(x), scale_factor=2, mode='trilinear', align_corners=False)"),
    "groups": ("self.a, self.b = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 4, 3, padding=2, dilation=2, groups=4)",
               "h = self.b(self.a(x))"),
    "einsum": ("self.weight = nn.Parameter(torch.randn(4, 1))", "h = torch.einsum('kc,bcxyz->bkxyz', self.weight, x)"),
    "weight norm": ("self.body = torch.nn.utils.parametrizations.weight_norm(nn.Conv3d(1, 4, 3, padding=1))",
                    "h = self.body(x)"),
    "old weight norm": ("self.body = torch.nn.utils.weight_norm(nn.Conv3d(1, 4, 3, padding=1))", "h = self.body(x)"),
    "shared": ("self.a, self.b = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 4, 1); self.again = self.b",
               "h = self.again(F.silu(self.b(self.a(x))))"),
    "attention": ("self.a = nn.Conv3d(1, 4, 4, stride=4); self.mha = nn.MultiheadAttention(4, 2, batch_first=True)",
                  "t = self.a(x); s = t.shape[2:]; q = t.flatten(2).transpose(1, 2); "
                  "q = self.mha(q, q, q)[0].transpose(1, 2).unflatten(2, s); "
                  "h = F.interpolate(q, size=tuple(x.shape[2:]))"),
    "checkpointed": ("self.body = nn.Conv3d(1, 4, 3, padding=1)",
                     "h = torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)"),
    "double": ("self.body = nn.Conv3d(1, 4, 3, padding=1)",
               "h = F.conv3d(x.double(), self.body.weight.double(), self.body.bias.double(), padding=1).float()"),
}  # fmt: skip
NORMS = {
    "none": ("", ""),
    "instance": ("self.norm = nn.InstanceNorm3d(4)", "h = self.norm(h)"),
    "instance affine": ("self.norm = nn.InstanceNorm3d(4, affine=True)", "h = self.norm(h)"),
    "batch": ("self.norm = nn.BatchNorm3d(4)", "h = self.norm(h)"),
    "group": ("self.norm = nn.GroupNorm(2, 4)", "h = self.norm(h)"),
    "layer": ("self.norm = nn.LayerNorm(4)", "h = self.norm(h.movedim(1, -1)).movedim(-1, 1)"),
}
HABITS = {
    "none": ("", ""),
    "assert on values": ("", "assert not torch.isnan(x).any(), 'NaN'"),
    "assert on a shape": ("", "assert x.ndim == 5 and x.shape[1] == 1, x.shape"),
    "branch on values": ("", "h = h * 2 if float(x.max()) > 0.5 else h * 3"),
    "plain tensor": ("self.grid = torch.linspace(-1, 1, 16).view(1, 1, -1, 1, 1)", "h = h + self.grid"),
    "tensor in a list": ("self.scales = [torch.tensor(2.0)]", "h = h * self.scales[0]"),
    "numpy": ("self.scale = np.float32(1.5)", "h = h * float(self.scale)"),
    "lock": ("self.lock = threading.Lock()", "self.lock.acquire(); self.lock.release()"),
    "open file": ("self.log = open(os.devnull, 'w')", "self.log.write('x')"),
    "lambda": ("self.act = lambda y: F.leaky_relu(y, 0.1)", "h = self.act(h)"),
    "generator": ("self.numbers = itertools.count()", "next(self.numbers)"),
    "itself": ("self.me = [self]", "h = h * len(self.me)"),
    "kept activation": ("self.seen = None", "self.seen = h.mean(); h = h - self.seen"),
    "counter": ("self.register_buffer('passes', torch.zeros((), dtype=torch.long))", "self.passes += 1"),
    "hook": ("self.register_forward_hook(lambda m, i, o: None)", ""),
    "pre-hook": ("self.register_forward_pre_hook(lambda m, i: (i[0] * 1.0,))", ""),
    "hook that keeps": ("self.kept = {}; self.register_forward_hook(lambda m, i, o: self.kept.update(o=o))", ""),
    "prints": ("", "print('forward', tuple(x.shape))"),
    "own device": ("", "h = h.to(next(self.parameters()).device) if len(list(self.parameters())) else h"),
    "in place": ("", "h = h.clone(); h.add_(1.0).mul_(2.0)"),
    "on its input": ("", "x.add_(0.25); h = h + x.mean()"),
    "no grad": ("", "torch.set_grad_enabled(False)"),
    "autocast": ("", "with torch.autocast('cpu', enabled=False): h = h * 1.0"),
    "warning": ("", "warnings.warn('old')"),
    "state hook": ("self._register_load_state_dict_pre_hook(lambda *a: None)", ""),
    "attribute of a function": ("self.twice = functools.partial(torch.mul, other=torch.tensor(2.0))",
                                "h = self.twice(h)"),
    "script inside": ("self.inner = torch.jit.script(nn.ReLU())", "h = self.inner(h)"),
    "exit handler": ("self.ref = weakref.ref(self)", "assert self.ref() is not None or True"),
    "raw attribute": ("self.__dict__['raw'] = object()", ""),
    "buffer that is not kept": ("self.register_buffer('ramp', torch.linspace(0, 1, 16), persistent=False)",
                                "h = h + self.ramp"),
    "buffer None": ("self.register_buffer('nothing', None)", "h = h if self.nothing is None else h * 0"),
    "hook that changes": ("self.register_forward_pre_hook(lambda m, i: tuple(2 * t for t in i))", ""),
    "by way of numpy": ("", "h = torch.from_numpy(h.detach().cpu().numpy() * 1.5)"),
    "loop over the batch": ("", "h = torch.stack([part * 2 for part in h])"),
    "bfloat16 inside": ("", "h = h.bfloat16().float()"),
    "autograd": ("", "with torch.inference_mode(False), torch.enable_grad(): y = torch.ones(3, requires_grad=True); "
                     "(y * y).sum().backward(); h = h + y.grad.sum()"),
    "own forward": ("self.again_ = lambda t, forward=self.forward: t", "h = self.again_(h)"),
    "reads its file": ("self.text = open(__file__).read()", "h = h + len(self.text[:1])"),
    "global": ("", "global PASSES; PASSES += 1"),
    "module list": ("self.extra = nn.ModuleList([nn.Conv3d(4, 4, 1) for _ in range(2)])",
                    "h = [h := layer(h) for layer in self.extra][-1]"),
    "parameter list": ("self.scales = nn.ParameterList([torch.ones(4, 1, 1, 1) * 2])", "h = h * self.scales[0]"),
    "module dict": ("self.parts = nn.ModuleDict({'a_b': nn.Conv3d(4, 4, 1)})", "h = self.parts['a_b'](h)"),
    "double weights": ("self.double_ = nn.Parameter(torch.ones(4, 1, 1, 1, dtype=torch.float64))",
                       "h = h * self.double_.to(h.dtype)"),
    "complex": ("", "h = torch.fft.ifftn(torch.fft.fftn(h, dim=(2, 3, 4)), dim=(2, 3, 4)).real"),
    "own getattr": ("", "h = h * self.a_name_that_is_not_there"),
    "thread": ("self.pool = __import__('concurrent.futures').futures.ThreadPoolExecutor(1)",
               "h = self.pool.submit(lambda t: t * 1.0, h).result()"),
}  # fmt: skip
OUTPUTS: dict[str, tuple[str, str, bool]] = {  # name: (what is returned, of what kind the forward is, classifies)
    "segmentation": ("seg", "x", False),
    "tuple": ("(seg, cls)", "x", True),
    "reversed": ("(cls, seg)", "x", True),
    "list": ("[seg, seg[..., ::2, ::2, ::2]]", "x", False),
    "list and class": ("([seg, seg[..., ::2, ::2, ::2]], cls)", "x", True),
    "dict": ("{'seg': seg, 'cls': cls}", "x", True),
    "dict with more": ("{'out': seg, 'features': h, 'logits': cls, 'none': None, 'epoch': 3}", "x", True),
    "nested": ("{'heads': {'masks': seg}, 'label': [cls]}", "x", True),
    "named tuple": ("Out(seg, cls)", "x", True),
    "ordered": ("collections.OrderedDict(out=seg)", "x", False),
    "half": ("seg.half()", "x", False),
    "float64": ("(seg.double(), cls.double())", "x", True),
    "not contiguous": ("(seg.transpose(2, 4).contiguous().transpose(2, 4), cls)", "x", True),
    "keywords": ("(seg, cls)", "x, *, mask=None, scale=1.0, **kwargs", True),
    "any arguments": ("(seg, cls)", "*args, **kwargs", True),
    "two classes": ("seg[:, :2]", "x", False),
}
# What cannot be run, or not everywhere: the words that its refusal has one of, and whether it is refused at all.
FAULTS: dict[str, tuple[str, str, str]] = {  # name: (of the constructor, of the forward, returned)
    "no segmentation": ("", "", "cls"),
    "smaller": ("", "", "seg[..., 1:, :, :]"),
    "four classes": ("", "", "torch.cat([seg, seg[:, :1]], 1)"),
    "nothing": ("", "", "None"),
    "raises": ("", "raise RuntimeError('not today')", "seg"),
    "own object": ("", "", "types.SimpleNamespace(seg=seg)"),
    "exits": ("", "sys.exit(3)", "seg"),
    "always NaN": ("", "h = h / 0 * 0", "(seg, cls)"),
    "constructor raises": ("raise ValueError('no such depth')", "", "seg"),
    "integers": ("", "", "seg.argmax(1)"),
}
FILE_FAULTS = (
    "file empty", "file cut", "file text", "file of another network", "weight missing", "weight NaN", "module pickled",
    "file folder", "no file",
)  # fmt: skip
WRAPPERS = (
    "bare", "state_dict", "model_state_dict", "module", "module.", "_orig_mod.", "model.", "ema", "counted", "nested",
    "training", "safetensors", "params", "weights", "odd key", "legacy", "half",
)  # fmt: skip
HEADER = """\
import collections, functools, itertools, os, sys, threading, types, warnings, weakref
import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn
import torch.nn.functional as F
Out = collections.namedtuple("Out", "segmentation classification")
PASSES = 0
"""
# Of the user's own, beside the network's file; some have the names of our packages.
SIBLINGS = ("helper", "models", "utils", "bench", "reports", "engines", "data", "types_")
GETTER = ["    def __getattr__(self, name):", "        if name == 'a_name_that_is_not_there': return 2.0",
          "        return super().__getattr__(name)"]  # fmt: skip
FACTORIES = {
    "make": "def make():\n    return Net()\n", "Net": "", "with_state": "def with_state(state):\n    return Net()\n",
    "with_defaults": "def with_defaults(depth=3, **rest):\n    return Net()\n",
    "parallel": "def parallel():\n    return nn.DataParallel(Net())\n", "made": "made = functools.partial(Net)\n",
    "sequential": "def sequential():\n    return nn.Sequential(Net())\n",
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A generated network.

    Attributes:
        parts: what it is made of, for the table.
        reference: the same in this process: a tile to its logits.
        fault: what makes it unusable; empty where it must run.
        random: its outputs differ from pass to pass.
        standardised: NaN on a tile without any spread.
    """

    file: Path
    factory: str
    checkpoint: Path
    parts: tuple[str, ...]
    reference: Callable[[Tensor], tuple[Tensor, Tensor | None]] | None
    fault: str = ""
    random: bool = False
    standardised: bool = False
    classifies: bool = False


def write_network(draw: Random, folder: Path) -> Network:
    """Write a network's code and its checkpoint."""
    body, norm = draw.choice(list(BODIES)), draw.choice(list(NORMS))
    habits = draw.sample([name for name in HABITS if name != "none"], draw.choice((0, 1, 1, 2)))
    output, wrapper = draw.choice(list(OUTPUTS)), draw.choice(WRAPPERS)
    standardised, noisy = draw.random() < 0.15, draw.random() < 0.08
    fault = draw.choice((*FAULTS, *FILE_FAULTS)) if draw.random() < 0.25 else ""
    returned, arguments, classifies = OUTPUTS[output]
    made, done = [BODIES[body][0], NORMS[norm][0]], []
    done += ["x = args[0]"] if arguments.startswith("*args") else []
    done += ["x = (x - x.mean((2, 3, 4), keepdim=True)) / x.std((2, 3, 4), keepdim=True)"] if standardised else []
    done += [BODIES[body][1], NORMS[norm][1]]
    for habit in habits:
        made.append(HABITS[habit][0])
        done.append(HABITS[habit][1])
    done += ["h = F.dropout(h, 0.3, training=True)"] if noisy else []
    if fault in FAULTS:
        made.append(FAULTS[fault][0])
        done.append(FAULTS[fault][1])
        returned = FAULTS[fault][2]
    made += ["self.head, self.cls = nn.Conv3d(4, 3, 1), nn.Linear(4, 3)"]
    done += ["seg = self.head(h * SCALE)", "cls = self.cls(h.mean((2, 3, 4)))"]
    sibling, factory = draw.choice(SIBLINGS), draw.choice(list(FACTORIES))
    (folder / f"{sibling}.py").write_text("SCALE = 2.0\n")
    getter = GETTER if "own getattr" in habits else []
    lines = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        {line}" for line in made if line]
    lines += [f"    def forward(self, {arguments}):", *(f"        {line}" for line in done if line)]
    lines += [f"        return {returned}", *getter, "", FACTORIES[factory]]
    file = folder / "net.py"
    file.write_text(f"{HEADER}from {sibling} import SCALE\n" + "\n".join(lines), encoding="utf-8")
    source = f"{HEADER}SCALE = 2.0\n" + "\n".join(lines)
    checkpoint, reference = _save(draw, file, source, factory, wrapper, output, fault)
    parts = [body, norm, *habits, output, wrapper, factory, sibling]
    parts += ["standardised"] * standardised + ["random"] * noisy
    return Network(file, factory, checkpoint, tuple(parts), reference, fault, noisy, standardised, classifies)


def _save(
    draw: Random, file: Path, source: str, factory: str, wrapper: str, output: str, fault: str
) -> tuple[Path, Callable[[Tensor], tuple[Tensor, Tensor | None]] | None]:
    module = ModuleType("reference")
    module.__file__ = str(file)
    exec(compile(source, str(file), "exec"), module.__dict__)
    torch.manual_seed(draw.getrandbits(32))
    try:
        network: nn.Module = getattr(module, factory)(*([{}] if factory == "with_state" else []))
    except ValueError:
        path = file.with_suffix(".pth")
        torch.save({"head.weight": torch.zeros(3, 4, 1, 1, 1)}, path)
        return path, None
    network.eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif "head" in name:
            tensor.normal_(0, 1)
    ending = ".safetensors" if wrapper == "safetensors" else draw.choice((".pth", ".pt", "", " (1).ckpt"))
    path = file.with_name(f"weights{ending}")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if wrapper == "half":
        state = {
            name: tensor.half().float() if tensor.is_floating_point() else tensor for name, tensor in state.items()
        }
        network.load_state_dict(state)
    _write(draw, wrapper, state, path)
    if fault in FILE_FAULTS:
        _spoil(draw, path, fault, state)
    return path, (None if fault else lambda x: _pick(network(x.clone()), output))


def _spoil(draw: Random, path: Path, fault: str, state: dict[str, Tensor]) -> None:
    content = path.read_bytes()
    path.unlink()
    match fault:
        case "file empty":
            path.write_bytes(b"")
        case "file cut":
            path.write_bytes(content[: draw.randrange(1, len(content) - 1)])
        case "file text":
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
        case "file of another network":
            torch.save({"encoder.0.weight": torch.ones(2, 3)}, path)
        case "weight missing":
            torch.save({name: tensor for name, tensor in state.items() if not name.endswith("head.weight")}, path)
        case "weight NaN":
            torch.save({name: tensor * float("nan") for name, tensor in state.items()}, path)
        case "module pickled":
            torch.save(nn.Sequential(nn.Conv3d(1, 3, 1)), path)
        case "file folder":
            path.mkdir()


def _write(draw: Random, wrapper: str, state: dict[str, Tensor], path: Path) -> None:
    prefixed = {f"{wrapper}{name}": tensor for name, tensor in state.items()}
    counted = state | {name: torch.zeros(1) for name in ("total_ops", "total_params", "head.total_ops")}
    document: Any = {
        "bare": state, "state_dict": {"state_dict": state, "epoch": 3}, "model_state_dict": {"model_state_dict": state},
        "module": {"module": state, "ds_version": "0.14.4"}, "module.": {"state_dict": prefixed},
        "_orig_mod.": prefixed,
        "model.": {"state_dict": prefixed, "hyper_parameters": {"lr": 1e-3}}, "ema": {"ema": state},
        "counted": {"model": counted}, "nested": {"checkpoint": {"model": {"state_dict": state}}},
        "training": {"net": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 1, "best": 0.5},
        "params": {"params": state}, "weights": {"weights": state}, "odd key": {"G_A": state, "iteration": 9},
        "half": {"state_dict": {n: t.half() if t.is_floating_point() else t for n, t in state.items()}},
    }.get(wrapper, state)  # fmt: skip
    if wrapper == "safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous().clone() for name, tensor in document.items()}, path)
    else:
        if draw.random() < 0.1:  # as caches of downloads have them
            path.symlink_to(path.with_name("0123abcd"))
        torch.save(document, path, _use_new_zipfile_serialization=wrapper != "legacy")


def _pick(returned: Any, output: str) -> tuple[Tensor, Tensor | None]:
    """The logits in what the network returns: it is known here where they are."""
    match output:
        case "segmentation" | "half" | "two classes":
            return returned.float(), None
        case "reversed":
            return returned[1], returned[0]
        case "list":
            return returned[0], None
        case "list and class":
            return returned[0][0], returned[1]
        case "dict":
            return returned["seg"], returned["cls"]
        case "dict with more":
            return returned["out"], returned["logits"]
        case "nested":
            return returned["heads"]["masks"], returned["label"][0]
        case "ordered":
            return returned["out"], None
    return returned[0].float(), returned[1].float()
