"""Keeps the user's code and ours apart where they give their packages the same names.

Ours are the top-level packages `OURS`. While the user's network is in use, those names belong to the user: their
modules lie in `sys.modules`, where everything that looks modules up by name finds them (statements inside a forward,
`importlib.import_module`, pickle, TorchDynamo). Ours are set aside, and imports from our own files are led to them.
The other way round would break tracers, which import the modules of the functions they inline.
"""

import builtins
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, NamespaceLoader, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

OURS = ("bench", "engines", "models", "reports")
HOME = Path(__file__).resolve().parents[2]
_FOLDERS = tuple(f"{Path(__file__).parents[2] / name}/" for name in OURS)  # as our modules spell it, links not followed
INSTALLED = {"site-packages", "dist-packages"}  # folders of installed packages
_PYTHONS = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))

_active: "list[_Isolation]" = []


@contextmanager
def user_imports(root: Path | None) -> Iterator[None]:
    """Import from `root` first, and give the user the names of our packages, until the end of the context.

    Without a root nothing changes.

    On leaving it everything is as before, and what was imported from `root` is forgotten. Code that lies in our own
    tree sees our packages: there is nothing to keep apart.
    """
    if root is None:
        yield
        return
    isolation = _Isolation(root.resolve())
    isolation.enter()
    _active.append(isolation)
    try:
        yield
    finally:
        _active.remove(isolation)
        isolation.leave()


@contextmanager
def our_names() -> Iterator[None]:
    """Give our packages their names back for a while, for pickle, which finds classes by name."""
    if not _active:
        yield
        return
    with _active[-1].swapped():
        yield


def is_active() -> bool:
    """Whether some user's imports come first now."""
    return bool(_active)


def user_files() -> list[Path]:
    """The user's files that were imported so far: what makes the network's function beside its weights.

    Those of other folders on the path, such as a library that is installed for editing, are among them as far as the
    modules lead there by what they name; installed packages are not.
    """
    return sorted(set(map(_file_of, _reached(_active[-1].theirs().values())))) if _active else []


def _reached(modules: Iterable[ModuleType]) -> list[ModuleType]:
    """These and whatever of the user's they name: modules, and modules of classes and functions, and so on."""
    reached, queue = dict[str, ModuleType](), list(modules)
    while queue:
        module = queue.pop()
        if module.__name__ in reached:
            continue
        reached[module.__name__] = module
        values = vars(module).values()
        names = {value.__name__ for value in values if isinstance(value, ModuleType)}
        names |= {value.__module__ for value in values if isinstance(value, type | FunctionType)}
        queue += [own for name in names if (own := sys.modules.get(name)) is not None and _is_theirs(own)]
    return list(reached.values())


def _is_theirs(module: ModuleType) -> bool:
    """Whether it is neither ours nor Python's nor of an installed package, and has a file."""
    file = _file_of(module)
    if not file.is_file() or not INSTALLED.isdisjoint(file.parts):
        return False
    return not str(file).startswith(_FOLDERS) and not any(map(file.is_relative_to, _PYTHONS))


class _Isolation:
    """Which of the two owns the names, and the modules of the other."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hides = root != HOME
        self._before = set(sys.modules)
        self._path = list(sys.path)
        self._aside: dict[str, ModuleType] = {}  # ours, while the user's are in place
        self._depth = 0
        self._import = builtins.__import__

    def enter(self) -> None:
        sys.path.insert(0, str(self._root))
        if self._hides:
            self._aside = _pop_our_modules()
            sys.meta_path.insert(0, self)  # a finder by its one method
            builtins.__import__ = self._routed

    def leave(self) -> None:
        for name in self.theirs():
            del sys.modules[name]
        sys.path[:] = self._path
        if self._hides:
            builtins.__import__ = self._import
            sys.meta_path.remove(self)
            _pop_our_modules()
            sys.modules.update(self._aside)

    def theirs(self) -> dict[str, ModuleType]:
        """Modules from the user's root, or from where their code led `sys.path`; installed packages left out."""
        roots = {self._root, *(Path(entry).resolve() for entry in sys.path if entry not in self._path)}
        new = {name: module for name, module in sys.modules.items() if name not in self._before or name in self._aside}
        return {
            name: module
            for name, module in new.items()
            if not roots.isdisjoint((file := _file_of(module)).parents) and INSTALLED.isdisjoint(file.parts)
        }

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Our packages under their names."""
        if self._depth or not self._hides:
            yield
            return
        theirs = _pop_our_modules()
        sys.modules.update(self._aside)
        self._depth = 1
        try:
            yield
        finally:
            self._depth = 0
            self._aside = _pop_our_modules()
            sys.modules.update(theirs)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the user's module of a name of ours, wherever but at home; other names are left to other finders."""
        if name.partition(".")[0] not in OURS or self._depth:
            return None
        spec = _find_theirs(name, path, target)
        if spec is None:  # said here, since a finder asked next may know ours, as that of an editable installation does
            raise ModuleNotFoundError(f"No module named {name!r} beside the --arch file or on the path", name=name)
        if spec.loader is None:
            # A folder without __init__.py. Without a loader its __file__ would be None, on which `inspect` raises when
            # it remembers a file for this name: that of ours.
            spec.loader = NamespaceLoader(name, list(spec.submodule_search_locations or ()), PathFinder.find_spec)
        return spec

    def _routed(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Takes the place of `__import__`, which TorchDynamo calls by keywords: imports from our files find ours."""
        file = globals.get("__file__") if globals else None
        if self._depth or not isinstance(file, str) or not file.startswith(_FOLDERS):
            return self._import(name, globals, locals, fromlist or (), level)
        assert globals is not None
        absolute = resolve_name("." * level + name, globals["__package__"]) if level else name
        package = absolute.partition(".")[0]
        if package not in OURS:
            with self._without_root(package):
                return self._import(name, globals, locals, fromlist or (), level)
        module = self._aside.get(absolute)
        # Engines import inside the functions that are timed, so what is loaded already costs two look-ups.
        if module is not None and all(hasattr(module, attribute) for attribute in fromlist or ()):
            return module if fromlist or level else self._aside[package]
        with self.swapped():
            return self._import(name, globals, locals, fromlist or (), level)

    @contextmanager
    def _without_root(self, package: str) -> Iterator[None]:
        """Let a library that ours import be found elsewhere: a file `onnx.py` beside the --arch file is none."""
        root = str(self._root)
        if package in sys.modules or sys.path[:1] != [root]:
            yield
            return
        del sys.path[0]
        try:
            yield
        finally:
            sys.path.insert(0, root)


def _pop_our_modules() -> dict[str, ModuleType]:
    """Take all modules under the names of our packages out of `sys.modules`."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in OURS}


def _find_theirs(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """Ask every finder for the user's module; what they find at home is ours."""
    where = [entry for entry in sys.path if Path(entry).resolve() != HOME] if path is None else path
    home = HOME / name.partition(".")[0]
    for finder in sys.meta_path:
        if isinstance(finder, _Isolation) or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, where if finder is PathFinder else path, target)
        if spec is not None and not Path(spec.origin or "").resolve().is_relative_to(home):
            return spec
    return None


def _file_of(module: ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else Path()
