"""Their packages and ours under the same names, as real files."""

import importlib
import os
import pickle
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import models.networks.unet
from models.model import Model
from models.user_code.isolation import HOME, OURS, our_names, user_files, user_imports

FILES = {
    "net.py": "from models import WHO\nfrom models.blocks import block\nimport engines.fast, bench, reports\n"
              "def lazily():\n    from models.late import LATE\n    return LATE\n",
    "models/__init__.py": "from .who import WHO\n",
    "models/who.py": "WHO = 'theirs'\n",
    "models/blocks.py": "import importlib\nfrom . import who\nfrom models.who import WHO as absolute\n"
                        "def block():\n    return who.WHO, absolute, importlib.import_module('models.who').WHO\n",
    "models/late.py": "LATE = 'theirs, late'\n",
    "engines/__init__.py": "", "engines/fast.py": "FAST = True\n", "bench/__init__.py": "BENCH = 'theirs'\n",
    "reports.py": "REPORTS = 'theirs'\n",
}  # fmt: skip


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def path(monkeypatch) -> None:
    """Libraries add folders to the path that hold another ``models``: ONNX Runtime's tools, MONAI's bundles."""
    own = [entry for entry in sys.path if Path(entry).resolve() == HOME or not Path(entry, "models").exists()]
    monkeypatch.setattr(sys, "path", own)


@pytest.fixture
def root(tmp_path) -> Path:
    return write(tmp_path / "project", FILES)


def state() -> tuple[dict[str, object], list[str], object]:
    import builtins

    return dict(sys.modules), list(sys.path), builtins.__import__


def test_each_finds_its_own(root):
    before = state()
    with user_imports(root):
        net = importlib.import_module("net")
        assert net.WHO == "theirs"
        assert net.block() == ("theirs", "theirs", "theirs")
        assert net.lazily() == "theirs, late"
        assert (net.engines.fast.FAST, net.bench.BENCH, net.reports.REPORTS) == (True, "theirs", "theirs")
        assert sys.modules["models"].WHO == "theirs"
        assert __import__(name="models.late", globals=None, locals=None, fromlist=("LATE",), level=0).LATE
        assert {str(file.relative_to(root)) for file in user_files()} == set(FILES)
    assert state() == before
    assert user_files() == []


@pytest.mark.parametrize("name", OURS)
def test_ours_import_ours_inside_functions(root, name):
    """By the very statements that our files hold, run as our files' code is: with their globals."""
    module = sys.modules.get(name) or importlib.import_module(name)
    code = f"def late():\n    import {name}\n    from models.networks.unet import MultiTaskUNet\n"
    code += f"    return {name}, MultiTaskUNet\n"
    if name == "models":
        code += "def near():\n    from . import load\n    return load\n"
    space = {"__file__": module.__file__, "__package__": name, "__name__": f"{name}.x"}
    exec(code, space)
    with user_imports(root):
        importlib.import_module("net")
        assert space["late"]() == (module, models.networks.unet.MultiTaskUNet)
        if name == "models":
            assert space["near"]().__file__ == str(Path(module.__file__).with_name("load.py"))
        assert sys.modules[name].__file__.startswith(str(root)), "theirs are in place again"


def test_a_library_that_ours_import_is_not_a_file_beside_theirs(root):
    """The engines import their runtimes late, and a project may well have a file `onnx.py`."""
    write(root, {"wave.py": "", "late.py": "THEIRS = True\n"})
    space = {"__file__": models.__file__, "__package__": "models", "__name__": "models.x"}
    exec("def late():\n    import wave\n    return wave\n", space)
    path = [str(root), *sys.path]
    sys.modules.pop("wave", None)
    with user_imports(root):
        assert hasattr(space["late"](), "open")
        assert sys.path == path
        assert importlib.import_module("late").THEIRS


def test_pickle_finds_ours_while_their_names_are_in_place(root):
    with user_imports(root):
        importlib.import_module("net")
        with our_names():
            held = pickle.dumps(Model)
            assert pickle.loads(held) is Model
        with pytest.raises(AttributeError), our_names():
            assert sys.modules["models"].WHO
        assert sys.modules["models"].WHO == "theirs"


def test_a_package_of_ours_that_they_do_not_have_is_not_there(root):
    with user_imports(write(root.parent / "other", {"net.py": ""})), pytest.raises(ModuleNotFoundError) as missing:
        importlib.import_module("models.networks.unet")
    assert str(missing.value) == "No module named 'models' beside the --arch file or on the path"


class Installed:
    """Finds packages as an editable installation does: by their names, wherever they lie."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.names = folder, names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.names:
            return None
        return PathFinder.find_spec(name, [str(self.folder.joinpath(*name.split(".")[:-1]))])


def test_a_module_that_their_package_lacks_is_not_taken_from_ours(root, monkeypatch):
    """Also where a finder knows ours by name, as that of our own editable installation does."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Installed(HOME, *OURS)])
    with user_imports(root):
        assert importlib.import_module("models").WHO == "theirs"
        with pytest.raises(ModuleNotFoundError, match=r"'models\.networks'"):
            importlib.import_module("models.networks.unet")
        with pytest.raises(ImportError):
            exec("from models import load", {})


def test_theirs_may_be_installed_by_a_finder_of_its_own(root, tmp_path, monkeypatch):
    other = write(tmp_path / "elsewhere", {"net.py": "from models import WHO\n"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Installed(HOME, *OURS), Installed(root, "models")])
    with user_imports(other):
        assert importlib.import_module("net").WHO == "theirs"
        assert importlib.import_module("models.late").LATE == "theirs, late"
    assert sys.modules["models"] is models


def test_nothing_is_left_where_their_code_raises_or_changes_the_path(root):
    write(root.parent / "library", {"their_library.py": "VALUE = 7\n"})
    library = root.parent / "library"
    text = f"import sys\nsys.path.insert(0, {str(library)!r})\nimport their_library\n"
    write(root, {"odd.py": text + f"sys.path.remove({str(root)!r})\nraise RuntimeError\n"})
    before = state()
    with user_imports(root):
        with pytest.raises(RuntimeError):
            importlib.import_module("odd")
        assert user_files() == [library / "their_library.py"]
    assert state() == before


def test_their_folders_without_init_do_not_upset_inspect(root, tmp_path):
    """It remembers the file of a module's name, and would ask for that of a package that has none."""
    other = write(root.parent / "plain", {"engines/fast.py": "", "bench/pipeline/one.py": ""})
    run(
        "import inspect, importlib, engines, bench.pipeline\n"
        "from models.user_code.isolation import Path, user_imports\n"
        "inspect.getmodule(compile('', 'nowhere', 'exec'), 'nowhere')\n"
        f"with user_imports(Path({str(other)!r})):\n"
        "    importlib.import_module('engines.fast'), importlib.import_module('bench.pipeline.one')\n"
        "    inspect.getmodule(compile('', 'elsewhere', 'exec'), 'elsewhere')\n",
        tmp_path, Path(__file__).parents[3],
    )  # fmt: skip


def test_packages_installed_below_their_root_are_not_their_files(root):
    write(root, {"venv/lib/site-packages/installed_one.py": "", "odd.py": "import sys\nsys.path.append("
                 f"{str(root / 'venv/lib/site-packages')!r})\nimport installed_one\n"})  # fmt: skip
    with user_imports(root):
        importlib.import_module("odd")
        assert user_files() == [root / "odd.py"]
        del sys.modules["installed_one"]


def test_ours_are_known_also_through_a_link(root, tmp_path):
    """An installation may be reached by a link, and its modules' files then are spelled by it."""
    (tmp_path / "link").symlink_to(Path(__file__).parents[3])
    code = (
        "import models.user_code.isolation as isolation, models.options, importlib, sys\n"
        f"with isolation.user_imports(isolation.Path({str(root)!r})):\n"
        "    importlib.import_module('net')\n"
        "    space = {'__file__': models.options.__file__, '__package__': 'models'}\n"
        "    exec('def late():\\n    from models.options import ModelOptions\\n    return ModelOptions', space)\n"
        "    assert space['late']() is models.options.ModelOptions\n"
        "    print(models.options.__file__)\n"
    )
    said = run(code, tmp_path, tmp_path / "link")
    assert said.startswith(str(tmp_path / "link")), "the link was not followed"


def run(code: str, folder: Path, path: Path) -> str:
    """Run code in a process of its own, which finds our packages in `path`."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
