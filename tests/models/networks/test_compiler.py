"""PyTorch's compiler is imported where it is asked for, and nowhere else; each in a process that has none yet."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
START = """
import sys
import torch
from torch import nn
from engines.evidence.mac_counter import layers_of
from models.networks.compiler import unasked
from models.networks.dataflow import Observer

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Conv3d(1, 2, 3), nn.Conv3d(2, 1, 1)

    def forward(self, x):
        return self.last(nn.functional.leaky_relu(self.layer(x)))

def has_compiler():
    return "torch._dynamo" in sys.modules
"""
COMPILES = """
class Compiled(Net):
    def forward(self, x):
        return torch.compile(self.last, backend="eager")(self.layer(x))

names = [layer.name for layer in layers_of(Compiled(), (1, 1, 8, 8, 8), on_meta={on_meta})]
assert names == ["layer", "last"], names
"""
REAL = 'assert sys.modules["torch._dynamo"].__file__'
CASES = {
    "counted": "assert len(layers_of(Net(), (1, 1, 8, 8, 8))) == 2\nassert not has_compiler()",
    "watched": "observer = Observer()\nobserver.call(lambda x: torch.rand(3) + x.sum().item(), torch.ones(2))\n"
    'assert (observer.reads_values, observer.draws) == (True, {"rand"})\nassert not has_compiler()',
    "compiles on meta": COMPILES.format(on_meta=True) + REAL,
    "compiles on a CPU": COMPILES.format(on_meta=False) + REAL,
    "compiles afterwards": "layers_of(Net(), (1, 1, 8, 8, 8))\nx = torch.ones(1, 1, 8, 8, 8)\nnet = Net()\n"
    'torch.testing.assert_close(torch.compile(net, backend="eager")(x), net(x))\n' + REAL,
    "asks for one of its modules": "with unasked():\n    import torch._dynamo.config as config\n"
    "    from torch._dynamo import eval_frame\n"
    'assert config is sys.modules["torch._dynamo"].config is sys.modules["torch._dynamo.config"]\n'
    "assert eval_frame.config is config\n" + REAL,
    "leaves a function of its own out": "with unasked():\n    function = torch.compiler.disable(lambda: 1)\n"
    "assert function() == 1\n" + REAL,
    "there already": "import torch._dynamo\nbefore = torch._dynamo\nlayers_of(Net(), (1, 1, 8, 8, 8))\n"
    "assert torch._dynamo is before",
    "nothing is left of it": "before = list(sys.meta_path)\nlayers_of(Net(), (1, 1, 8, 8, 8))\n"
    "assert sys.meta_path == before\n"
    'assert not hasattr(vars(Observer)["__torch_dispatch__"].__wrapped__, "__dynamo_disable")',
}


@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_it_is_imported_where_it_is_asked_for(code):
    done = subprocess.run([sys.executable, "-c", START + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
