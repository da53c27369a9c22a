"""PyTorch's compiler, which is imported by whatever is only to be left out of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"
_LEFT_OUT = "__dynamo_disable"  # PyTorch's note on a function that it has asked for already


@contextmanager
def unasked() -> Iterator[None]:
    """Within it PyTorch does not import its compiler only to leave functions of its own out of it.

    It would for any dispatch mode, and for half of what is computed on the meta device, and the import takes as long
    as that of PyTorch itself. Whoever asks for more meanwhile is given the compiler.
    """
    if _NAME in sys.modules:
        yield
        return
    absent = _Absent()
    sys.modules[_NAME] = absent
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        absent.give_way()


class _Absent(ModuleType, MetaPathFinder, Loader):
    """In the place of the compiler until more is asked of it, or of a module of it, than to leave a function out."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self.__path__: list[str] = []  # it has modules
        self._left_out: list[Any] = []

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        if options != {"wrapping": False}:  # it is not `torch._compile` that asks, but somebody's network
            return self.__getattr__("disable")(function, *arguments, **options)
        self._left_out.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        self.give_way()
        return getattr(import_module(_NAME), name)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        if not name.startswith(f"{_NAME}."):
            return None
        self.give_way()
        import_module(name)
        return ModuleSpec(name, self, loader_state=sys.modules.pop(name))  # else it would be loaded a second time

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module: ModuleType = spec.loader_state
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been imported."""

    def give_way(self) -> None:
        """Have the compiler imported by whoever asks next, and asked again for every function."""
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
            sys.meta_path.remove(self)
        for function in self._left_out:
            vars(function).pop(_LEFT_OUT, None)
        self._left_out.clear()
