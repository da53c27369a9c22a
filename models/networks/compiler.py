"""PyTorch's compiler, imported on demand: PyTorch itself imports it even to keep one of its functions out of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"
_EXCLUDED = "__dynamo_disable"  # where PyTorch keeps, at a function, what `disable` gave for it


@contextmanager
def compiler_on_demand() -> Iterator[None]:
    """Within it ``torch._dynamo`` is imported by what uses it, not by PyTorch to exclude functions of its own from it.

    PyTorch does that for any dispatch mode, and for half of what is computed on the meta device; the import takes as
    long as that of PyTorch itself.
    """
    if _NAME in sys.modules:
        yield
        return
    stand_in = _StandIn()
    sys.modules[_NAME] = stand_in
    sys.meta_path.insert(0, stand_in)
    try:
        yield
    finally:
        stand_in.give_way()


class _StandIn(ModuleType, MetaPathFinder, Loader):
    """In the place of the compiler until it, or a module of it, is asked for more than to exclude a function."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self.__path__: list[str] = []  # it has modules
        self._excluded: list[Any] = []

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        if options != {"wrapping": False}:  # it is not `torch._compile` that asks, but somebody's network
            return self.__getattr__("disable")(function, *arguments, **options)
        self._excluded.append(function)
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
        for function in self._excluded:
            vars(function).pop(_EXCLUDED, None)
        self._excluded.clear()
