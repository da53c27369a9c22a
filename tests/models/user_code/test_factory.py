"""Networks of the user's own code, made by real files that lie elsewhere."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import CheckpointError
from models.inspection import inspect
from models.load import load_model
from models.model import Model
from models.options import ModelOptions
from models.task import Task, structures_of
from models.task_file import task_values
from models.user_code.factory import Factory

TILE = (8, 8, 8)
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, subtypes=3):
        super().__init__()
        self.body = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.seg = nn.Conv3d(4, classes, 1)
        self.cls = nn.Linear(4, subtypes) if subtypes else None

    def forward(self, x):
        deep = self.norm(self.body(x)).relu()
        return self.shape_of(self.seg(deep), self.cls and self.cls(deep.mean((2, 3, 4))))

    def shape_of(self, seg, cls):
        return {"segmentation": seg, "classification": cls}
"""

NO_TASK = "no task is named: its classes are taken for background, pancreas, lesion"
NO_LESION = (NO_TASK.removesuffix(", lesion"), "it has no lesion class: lesion DSC is not applicable")


@pytest.fixture
def project(tmp_path) -> Callable[..., Path]:
    """Write the user's files: ``net.py``, and others by their paths; return the folder."""

    def write(net: str = NET, others: dict[str, str] | None = None) -> Path:
        for name, text in {"net.py": net, **(others or {})}.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "project"

    return write


@pytest.fixture
def trained(tmp_path) -> Callable[..., tuple[Path, nn.Module]]:
    """The weights of NET's class with some statistics of its norm, saved; and the network they came from."""

    def save(*sizes: int, prefix: str = "", change: Callable[[dict], dict] = dict) -> tuple[Path, nn.Module]:
        space: dict = {"__name__": "trained"}
        exec(NET, space)
        torch.manual_seed(1)
        network = space["Net"](*sizes)
        network(torch.rand(2, 1, *TILE))  # in training mode: the norm learns what it saw
        path = tmp_path / "net.pth"
        torch.save({"state_dict": change({prefix + key: value for key, value in network.state_dict().items()})}, path)
        return path, network.eval()

    return save


def load(path: Path, arch: object, tile: tuple[int, int, int] = TILE) -> Model:
    with load_model(path, ModelOptions(str(arch), tile)) as (model, _):
        return model


def refused(path: Path, arch: object) -> str:
    before = set(sys.modules)
    with pytest.raises(CheckpointError) as error:
        load(path, arch)
    assert set(sys.modules) <= before | {name for name in sys.modules if name.startswith(("torch", "numpy"))}
    assert "\n" not in str(error.value)
    return str(error.value)


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returned",
    [
        '{"segmentation": seg, "classification": cls}',
        "(seg, cls)",
        "[cls, seg]",
        '([seg, nn.functional.avg_pool3d(seg, 2)], {"subtype": cls})',
    ],
)
def test_outputs_are_bit_equal_to_the_network_the_weights_came_from(project, trained, returned):
    path, network = trained()
    folder = project(f"{NET}\n    def shape_of(self, seg, cls):\n        return {returned}\n")
    model = load(path, folder / "net.py:Net")
    x = torch.rand(2, 1, *TILE)
    with torch.inference_mode():
        expected, outputs = network(x), model.module(x)
    assert torch.equal(outputs[0], expected["segmentation"])
    assert torch.equal(outputs[1], expected["classification"])
    assert (model.architecture, model.width, model.tile, model.window) == ("net.py:Net", 4, TILE, (-1000.0, 1000.0))
    assert (model.labels, model.subtypes, model.remarks) == ((0, 1, 2), 3, (NO_TASK,))
    assert (model.module.training, any(p.requires_grad for p in model.module.parameters())) == (False, False)


@pytest.mark.parametrize(
    ("sizes", "labels", "subtypes", "remarks"),
    [
        ((3, 0), (0, 1, 2), 0, ("it has no classification: F1 is not applicable", NO_TASK)),
        ((2, 3), (0, 1), 3, NO_LESION),
        ((2, 4), (0, 1), 4, ("it tells 4 subtypes apart", *NO_LESION)),
    ],
)
def test_what_a_network_does_not_give_is_said(project, trained, sizes, labels, subtypes, remarks):
    path, _ = trained(*sizes)
    folder = project(f"{NET}\ndef make():\n    return Net{sizes}\n")
    model = load(path, folder / "net.py:make")
    assert (model.labels, model.subtypes, model.remarks) == (labels, subtypes, remarks)
    assert model.module(torch.rand(2, 1, *TILE))[1].shape == (2, subtypes or 1)


@pytest.mark.parametrize("stem", ["nn.Conv3d(3, 4, 3, padding=1)", "nn.LazyConv3d(4, 3, padding=1)"])
def test_a_task_explains_a_network_of_other_channels_and_classes(project, tmp_path, stem):
    text = NET.replace("nn.Conv3d(1, 4, 3, padding=1)", "nn.Conv3d(3, 4, 3, padding=1)")
    space: dict = {"__name__": "trained"}
    exec(text, space)
    network = space["Net"](5, 2).eval()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    folder = project(NET.replace("nn.Conv3d(1, 4, 3, padding=1)", stem) + "\ndef make():\n    return Net(5, 2)\n")
    labels = {"background": 0} | {f"part {label}": label for label in range(2, 6)}
    task = Task(
        name="parts",
        channels=("T1", "T2", "PD"),
        labels=labels,
        structures=structures_of(labels),
        classes=("no", "yes"),
    )
    options = ModelOptions(str(folder / "net.py:make"), TILE, task=task)
    with load_model(tmp_path / "net.pth", options) as (model, _), torch.inference_mode():
        x = torch.rand(1, 3, *TILE)
        assert torch.equal(model.module(x)[0], network(x)["segmentation"])
        assert (model.task, model.labels, model.subtypes) == (task, (0, 2, 3, 4, 5), 2)
        (remark,) = model.remarks
        assert remark.startswith("no window is named, and the channels T1, T2, PD are not CT: intensities are clipped")
    torch.save({"state_dict": network.state_dict(), "task": task_values(task)}, tmp_path / "own.pth")
    assert load(tmp_path / "own.pth", folder / "net.py:make").labels == (0, 2, 3, 4, 5)
    said = refused(tmp_path / "net.pth", folder / "net.py:make")
    assert said == (
        f"{folder / 'net.py'}: its network takes 3 channels and gives 5 classes, and nothing says what they are; "
        "name the task that it was trained for with --task FILE.toml"
    )


def test_packages_of_the_names_of_ours_are_theirs(project, trained):
    path, network = trained()
    inner = NET.replace("from torch", "from ..near import FACTOR\nfrom torch").replace(
        "deep = ",
        "import reports\n        from bench.lazily import scaled\n        deep = FACTOR * scaled * ",
    )
    inner += "import importlib\nassert importlib.import_module('engines.late').LATE\n"
    folder = project(
        "from models import Net\n",
        {
            "models/__init__.py": "from models.inner.net import Net\n", "models/inner/net.py": inner,
            "models/near.py": "FACTOR = 1\n", "engines/late.py": "LATE = True\n", "bench/lazily.py": "scaled = 1\n",
            "reports.py": "",
        },
    )  # fmt: skip
    before = set(sys.modules)
    options = ModelOptions(str(folder / "net.py:Net"), TILE)
    x = torch.rand(1, 1, *TILE)
    with load_model(path, options) as (model, _):
        outputs = model.module(x)
    assert torch.equal(outputs[0], network(x)["segmentation"])
    assert {name for name in set(sys.modules) - before if not name.startswith("torch")} == set()
    assert Path(sys.modules["models"].__file__).parent.name == "models"
    (folder / "bench" / "lazily.py").write_text("scaled = 1.0\n")
    assert load(path, folder / "net.py:Net").code != model.code, "a file imported in the forward counts too"


def test_a_file_called_models_is_theirs(project, trained):
    path, _ = trained()
    assert load(path, project(others={"models.py": NET}) / "models.py:Net").architecture == "models.py:Net"


def test_a_file_in_a_package_is_imported_as_part_of_it(project, trained):
    path, _ = trained()
    parts = {"lab/__init__.py": "", "lab/sizes.py": "", "lab/nets/__init__.py": ""}
    folder = project(others={**parts, "lab/nets/net.py": NET + "from .. import sizes\n"})
    source = Factory.of(str(folder / "lab" / "nets" / "net.py:Net"))
    assert (source.root, source.module) == (folder, "lab.nets.net")
    assert load(path, folder / "lab" / "nets" / "net.py:Net").subtypes == 3


def test_a_factory_may_take_the_weights(project, trained):
    path, _ = trained(2, 4)
    text = NET + (
        "def make(state):\n    sizes = len(state['seg.bias']), len(state['cls.bias'])\n"
        "    state.clear()  # theirs alone\n    return Net(*sizes)\n"
    )
    assert load(path, project(text) / "net.py:make").subtypes == 4


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model."])
def test_prefixes_may_be_the_networks_own(project, trained, prefix):
    path, network = trained(prefix=prefix)
    own = (
        NET
        + "\nclass Whole(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.model = Net()"
    )
    own += "\n    def forward(self, x):\n        return self.model(x)\n"
    factory = "Whole" if prefix == "model." else "Net"
    model = load(path, project(own) / f"net.py:{factory}")
    x = torch.rand(1, 1, *TILE)
    assert torch.equal(model.module(x)[0], network(x)["segmentation"])


def test_weights_of_a_norm_without_counter_are_loaded(project, trained):
    path, network = trained(change=lambda state: {k: v for k, v in state.items() if not k.endswith("tracked")})
    model, x = load(path, project() / "net.py:Net"), torch.rand(1, 1, *TILE)
    assert torch.equal(model.module(x)[0], network(x)["segmentation"])
    assert model.remarks == (NO_TASK,)


OLDER = """
def make():
    network = Net()
    network.seg = nn.utils.parametrizations.weight_norm(network.seg)
    return network
"""


def test_names_that_pytorch_loads_as_older_ones_are_loaded(project, trained):
    magnitude = "seg.weight_g", "seg.weight_v"

    def older(state: dict) -> dict:
        weight = state.pop("seg.weight")
        return state | dict(zip(magnitude, (weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1), weight), strict=True))

    path, network = trained(change=older)
    model, x = load(path, project(NET + OLDER) / "net.py:make"), torch.rand(1, 1, *TILE)
    torch.testing.assert_close(model.module(x)[0], network(x)["segmentation"])
    assert model.remarks[0].startswith(
        "its weights have other names than the network's, which it loads: 2 missing (seg.parametrizations.weight.orig"
    )
    path, _ = trained(change=lambda state: older(state) | {"seg.weight_g": torch.full((3, 1, 1, 1, 1), torch.nan)})
    assert "holds NaN or infinity in seg.weight_g" in refused(path, project(NET + OLDER) / "net.py:make")


COMPILED = """
def make():
    network = Net()
    network.body, network.seg = torch.compile(network.body), torch.compile(network.seg)
    return network
"""


@pytest.mark.parametrize("factory", ["Net", "make"])
def test_what_was_compiled_inside_a_network_is_loaded(project, trained, factory):
    def compiled(state: dict) -> dict:
        return {k.replace("body.", "body._orig_mod."): v for k, v in state.items()}

    path, network = trained(change=compiled)
    model, x = load(path, project("import torch\n" + NET + COMPILED) / f"net.py:{factory}"), torch.rand(1, 1, *TILE)
    if factory == "Net":
        assert torch.equal(model.module(x)[0], network(x)["segmentation"])
    state = model.module.network.state_dict()
    assert [value.tolist() for value in state.values()] == [value.tolist() for value in network.state_dict().values()]


def test_half_precision_weights_become_float32(project, trained):
    path, _ = trained(change=lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()})
    model = load(path, project() / "net.py:Net")
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.module.network.norm.num_batches_tracked.dtype == torch.int64


def test_code_and_weights_are_distinguished(project, trained):
    path, _ = trained()
    folder = project()
    first = load(path, folder / "net.py:Net")
    assert load(path, folder / "net.py:Net").code == first.code
    (folder / "net.py").write_text(NET.replace("relu", "tanh"))
    changed = load(path, folder / "net.py:Net")
    assert (changed.sha256, changed.code != first.code) == (first.sha256, True)


CONFIGURED = (
    NET.replace(
        "from torch import nn\n",
        """
import json
from pathlib import Path

from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
""",
    ).replace("self.norm(self.body(x)).relu()", "self.act(self.norm(self.body(x)), **self.settings)")
    + """

def make():
    held = json.loads((HERE / "conf" / "net.json").read_text())
    network = Net()
    network.act, network.settings = getattr(functional, held["act"]), held.get("settings", {})
    network.norm.register_forward_hook(lambda *_: None)
    network.table = {"here": str(HERE), "at": object()}
    return network
"""
)


def test_a_data_file_that_the_factory_reads_is_part_of_the_code(project, trained):
    path, _ = trained()
    folder = project(CONFIGURED, {"conf/net.json": '{"act": "leaky_relu"}'})
    arch = folder / "net.py:make"
    first = load(path, arch).code
    assert load(path, arch).code == first, "loaded again, its objects at other addresses"
    (folder / "conf" / "other.json").write_text("{}")
    assert load(path, arch).code == first, "a file that nothing reads"
    (folder / "conf" / "net.json").write_text('{"act": "leaky_relu", "ignored": 1}')
    assert load(path, arch).code != first


def test_what_a_file_elsewhere_changes_in_the_network_is_part_of_the_code(project, trained, tmp_path):
    """Where the file lies outside the folder of the factory, or is not opened by Python, its effect counts."""
    path, _ = trained()
    (tmp_path / "conf").mkdir()
    arch = project(CONFIGURED.replace("parent\n", "parent.parent\n")) / "net.py:make"
    codes = set()
    for held in (
        '{"act": "leaky_relu"}',
        '{"act": "leaky_relu", "settings": {"negative_slope": 0.2}}',
        '{"act": "elu"}',
    ):
        (tmp_path / "conf" / "net.json").write_text(held)
        codes.add(load(path, arch).code)
    assert len(codes) == 3


def test_the_code_is_the_same_in_every_process(project, trained):
    path, _ = trained()
    arch = project(CONFIGURED, {"conf/net.json": '{"act": "leaky_relu"}'}) / "net.py:make"
    text = (
        "from pathlib import Path; from models.load import load_model; from models.options import ModelOptions\n"
        f"with load_model(Path({str(path)!r}), ModelOptions({str(arch)!r}, {TILE})) as (model, _): print(model.code)"
    )
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == load(path, arch).code


def test_a_library_beside_their_project_is_part_of_the_code(project, trained, tmp_path, monkeypatch):
    """As one that is installed for editing: on the path, and in no folder of theirs."""
    path, _ = trained()
    folder, library = project(), tmp_path / "library" / "activations"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("from activations.steep import relu\n")
    (library / "steep.py").write_text("import torch\n\n\ndef relu(x):\n    return torch.relu(x)\n")
    (folder / "net.py").write_text(f"from activations import relu as activation\n{NET}")
    monkeypatch.syspath_prepend(str(library.parent))
    first = load(path, folder / "net.py:Net").code
    assert load(path, folder / "net.py:Net").code == first, "loaded again, while the library is there already"
    with (library / "steep.py").open("a") as file:
        file.write("# other\n")
    assert load(path, folder / "net.py:Net").code != first


def test_inspect_keeps_what_they_print_out_of_its_output(project, trained, capsys):
    path, _ = trained()
    arch = project(f"print('imported')\n{NET}") / "net.py:Net"
    assert inspect(path, ModelOptions(str(arch), TILE))["architecture"] == "net.py:Net"
    assert capsys.readouterr() == ("", "imported\n")


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("net.py", "net.py: is no FILE.py:FACTORY; give --arch FILE.py:FACTORY"),
        ("net.py:two words", "is no FILE.py:FACTORY"),
        ("net.txt:Net", "is no FILE.py:FACTORY"),
        ("nothing.py:Net", "nothing.py: no such file; give --arch FILE.py:FACTORY"),
        ("net.py:nett", "net.py: has no function nett; it has Net; give --arch"),
        ("net.py:SIZE", "net.py: has no function SIZE"),
    ],
)
def test_what_names_no_factory(project, trained, monkeypatch, arch, said):
    path, _ = trained()
    monkeypatch.chdir(project(NET + "SIZE = 3\n"))
    assert said in refused(path, arch)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package\n", "importing it failed: ModuleNotFoundError at net.py:1: No module named"),
        ("def make(:\n", "importing it failed: SyntaxError: invalid syntax (net.py, line 1)"),
        ("import sys\nsys.exit(2)\n", "importing it failed: SystemExit at net.py:2: 2; mend it"),
        ("import part\n", "importing it failed: ZeroDivisionError at part.py:2: division by zero; mend it"),
        ("def Net():\n    raise KeyError('width')\n", "Net() failed: KeyError at net.py:2: 'width'; mend it"),
        ("def Net(width):\n    pass\n", "Net() failed: TypeError: Net() missing 1 required positional"),
        ("def Net():\n    return 3\n", "Net() returned a int; return the network, a torch.nn.Module"),
        (NET.replace("deep =", "raise OSError('one\\ntwo')\n        deep ="),
         "its forward failed: OSError at net.py:13: one two; mend it, or choose another tile with --tile"),
        (NET.replace('{"segmentation": seg, "classification": cls}', "None"),
         "its forward returns no float [1, classes, 8, 8, 8] tensor but NoneType; return the logits of a segmentation"),
        (NET.replace('{"segmentation": seg, "classification": cls}', "seg[:, :1]"),
         "its network takes 1 channel and gives 1 class, and nothing says what they are; name the task"),
    ],
)  # fmt: skip
def test_errors_of_theirs_are_one_line_with_their_place(project, trained, text, said):
    path, _ = trained()
    folder = project(text, {"part.py": "\n1 / 0\n"})
    message = refused(path, folder / "net.py:Net")
    assert message.startswith(f"{folder / 'net.py'}: ")
    assert said in message


def test_a_file_named_like_a_module_that_is_loaded(project, trained):
    path, _ = trained()
    assert (
        f"has the name of a module that is loaded already ({Path(torch.__file__).resolve()}); rename the file"
        in refused(path, project(others={"torch.py": NET}) / "torch.py:Net")
    )


def test_weights_of_another_network(project, trained):
    path, _ = trained(3, 2)
    message = refused(path, project() / "net.py:Net")
    assert message == (
        f"{path}: its weights are not those of net.py:Net: 2 of another shape (cls.weight [2, 4] instead of [3, 4], "
        "cls.bias [2] instead of [3]); name the factory that made the trained network"
    )


def test_weights_that_diverged(project, trained):
    path, _ = trained(change=lambda state: state | {"seg.bias": torch.full((3,), torch.nan)})
    assert f"{path}: holds NaN or infinity in seg.bias" in refused(path, project() / "net.py:Net")


def test_without_arch_no_code_of_theirs_runs(project, trained):
    path, _ = trained()
    folder = project("open('marker', 'w')\n" + NET)
    code = (
        "from models.load import build_model, read_checkpoint\nfrom pathlib import Path\n"
        f"build_model(read_checkpoint(Path({str(path)!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert "name the code of your own network with --arch FILE.py:FACTORY" in done.stderr
    assert not (folder / "marker").exists()
