"""PyTorch's compiler is imported where it is asked for, and nowhere else; each in a process that has none yet."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
START = """
import sys
import torch
from torch import nn
from engines.evidence.mac_counter import layers_of
from models.networks.compiler import compiler_on_demand
from models.networks.dataflow import Observer

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Conv3d(1, 2, 3), nn.Conv3d(2, 1, 1)

    def forward(self, x):
        return self.last(nn.functional.leaky_relu(self.layer(x)))
"""
COMPILES = """
class Compiled(Net):
    def forward(self, x):
        return torch.compile(self.last, backend="eager")(self.layer(x))

names = [layer.name for layer in layers_of(Compiled(), (1, 1, 8, 8, 8), on_meta={on_meta})]
assert names == ["layer", "last"], names
real = sys.modules["torch._dynamo"]
assert real.__file__
layers_of(Net(), (1, 1, 8, 8, 8))
assert sys.modules["torch._dynamo"] is real
"""
NOT_ASKED_FOR = """
finders = list(sys.meta_path)
assert len(layers_of(Net(), (1, 1, 8, 8, 8))) == 2
observer = Observer()
observer.call(lambda x: torch.rand(3) + x.sum().item(), torch.ones(2))
assert (observer.reads_values, observer.draws) == (True, {"rand"})
assert "torch._dynamo" not in sys.modules
assert sys.meta_path == finders
assert not hasattr(vars(Observer)["__torch_dispatch__"].__wrapped__, "__dynamo_disable")
x, net = torch.ones(1, 1, 8, 8, 8), Net()
torch.testing.assert_close(torch.compile(net, backend="eager")(x), net(x))
"""
A_MODULE_OF_IT = """
with compiler_on_demand():
    import torch._dynamo.config as config
    from torch._dynamo import eval_frame
assert config is sys.modules["torch._dynamo"].config is sys.modules["torch._dynamo.config"]
assert eval_frame.config is config
"""
A_FUNCTION_OF_ITS_OWN = """
with compiler_on_demand():
    function = torch.compiler.disable(lambda: 1)
assert function() == 1
assert sys.modules["torch._dynamo"].__file__
"""
CASES = {
    "not asked for, and then it is": NOT_ASKED_FOR,
    "a network compiles on the meta device": COMPILES.format(on_meta=True),
    "a network compiles on a CPU": COMPILES.format(on_meta=False),
    "a module of it": A_MODULE_OF_IT,
    "excludes a function of the user's": A_FUNCTION_OF_ITS_OWN,
}


# A fork for each, since to import PyTorch takes longer than all of them.
FORKS = """
import json, os
for name, code in json.loads(sys.argv[1]).items():
    if not (child := os.fork()):
        exec(code)
        sys.stderr.flush()
        os._exit(0)
    print(json.dumps([name, os.waitpid(child, 0)[1]]), flush=True)
"""


def test_it_is_imported_where_it_is_asked_for():
    command = [sys.executable, "-c", START + FORKS, json.dumps(CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[name, 0] for name in CASES], done.stderr
