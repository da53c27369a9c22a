"""Installed packages that make a network's function beside PyTorch: another version of one may be another function."""

import ast
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from torch import nn

from models.user_code.isolation import INSTALLED, OURS, user_files

_KNOWN = {"torch", *OURS}  # the version of PyTorch is asked for with whatever is built


def packages_of(network: nn.Module) -> tuple[str, ...]:
    """Names of the distributions that the classes of its layers are of, and that the user's files import.

    Call it where the network was made: after `models.load.load_model` the user's files are not known any more.
    """
    names = {type(part).__module__ for part in network.modules()}
    names |= {name for file in user_files() if file.suffix == ".py" for name in _imports(file)}
    foreign = {name.partition(".")[0] for name in names} - _KNOWN
    return tuple(sorted({each for name in foreign if _is_installed(name) for each in _distributions_of(name)}))


def _is_installed(package: str) -> bool:
    """Whether it is neither Python's nor the user's own, and was imported: what no forward came to has no part."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is not None and not INSTALLED.isdisjoint(Path(file).parts)


def _distributions_of(package: str) -> list[str]:
    """Most are called as their package is; for the rest every file of every distribution is looked at."""
    with suppress(metadata.PackageNotFoundError):
        return [metadata.distribution(package).name]
    return metadata.packages_distributions().get(package, [])


def _imports(file: Path) -> set[str]:
    """Modules that the statements of a file name, wherever they stand; not those relative to it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names
