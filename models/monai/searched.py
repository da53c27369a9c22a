"""The arguments of DiNTS, a network whose architecture was searched for: codes in a file beside the bundle's weights.

MONAI's zoo writes them as ``$torch.load(@arch_ckpt_path, ...)`` and ``$@arch_ckpt['arch_code_a']``. The file is read as
a checkpoint is, running nothing of it, and of it only arrays of numbers are taken.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import CheckpointError, refusal
from models.monai.config import Config
from models.reader.container import TORCH_ZIP, container_of
from models.reader.torch_pickle.placeholders import Placeholder
from models.reader.torch_pickle.unpickler import load_safely

_MEMBER = re.compile(r"\$(?:torch\.from_numpy\()?@(\w+)\[['\"](\w+)['\"]\]\)?")
_LOADED = re.compile(r"\$torch\.load\(@(\w+)(?:,.*)?\)", re.DOTALL)
_SPACE = "TopologyInstance"  # MONAI's class of what the codes describe
_MOST = 10_000  # numbers in an array
_TYPES = re.compile(r"[fiub][1248]")


def searched_arguments(config: Config, key: str, written: dict[str, Any]) -> dict[str, Any]:
    """The arguments of DiNTS as plain values, codes as lists; `dints_space` as the arguments of its class.

    Args:
        key: where the network stands.
        written: its arguments, nothing in them resolved yet.

    Raises:
        CheckpointError: something in it needs running, or the codes are no arrays of numbers in a file of the bundle's.
    """
    space = config.component(f"{key}::dints_space", written.get("dints_space"))
    if space is None or space.name != _SPACE or space.target not in (_SPACE, f"monai.networks.nets.{_SPACE}"):
        raise config.refused(f"its {key}::dints_space is no {_SPACE} of MONAI's")
    inner = {name: value for name, value in space.arguments.items() if name not in ("device", "cell")}
    where, codes = config.followed(f"{space.key}::arch_code", inner.pop("arch_code", []))
    if not isinstance(codes, list) or len(codes) != 2:
        raise config.refused(f"its {where} are no two codes")
    resolved = {name: config.resolved(f"{space.key}::{name}", value) for name, value in inner.items()}
    resolved["arch_code"] = [_codes(config, f"{where}::{at}", code) for at, code in enumerate(codes)]
    others = {name: value for name, value in written.items() if name not in ("dints_space", "node_a")}
    arguments = {name: config.resolved(f"{key}::{name}", value) for name, value in others.items()}
    return arguments | {"dints_space": resolved, "node_a": _codes(config, f"{key}::node_a", written.get("node_a"))}


def files_of_codes(config: Config) -> list[Path]:
    """The files in the bundle that its configuration takes codes from.

    Raises:
        CheckpointError: one is not there, or elsewhere.
    """
    named = (_LOADED.fullmatch(value) for value in config.values.values() if isinstance(value, str))
    return [_file(config, match[1]) for match in named if match]


def _file(config: Config, key: str) -> Path:
    path = Path(str(config.resolved(key, f"@{key}")))
    if not path.is_absolute() or not path.is_relative_to(config.root) or ".." in path.parts:
        raise config.refused(f"its {key} is {str(path)[:120]}, which is not in the bundle")
    if not path.is_file():
        raise refusal(config.root, f"has no {path.relative_to(config.root)}", "download the whole bundle")
    return path


def make_searched(nets: Any, made: Any, arguments: dict[str, Any]) -> Any:
    """DiNTS of MONAI's `nets` with what `searched_arguments` gave."""
    import torch

    space = dict(arguments["dints_space"])
    codes = [np.array(code) for code in space.pop("arch_code")]
    topology = getattr(nets, _SPACE)(arch_code=codes, device="cpu", **space)
    others = {name: value for name, value in arguments.items() if name not in ("dints_space", "node_a")}
    network = made(dints_space=topology, node_a=torch.tensor(arguments["node_a"]), **others)
    # MONAI's forward branches on these tensors: as plain numbers they are the same, and a graph can be made.
    network.node_a, topology.arch_code_a = arguments["node_a"], codes[0]
    return network


def _codes(config: Config, key: str, written: Any) -> Any:
    """An array as lists: as the configuration has it, or from the file that it names."""
    member = _MEMBER.fullmatch(written) if isinstance(written, str) else None
    loaded = config.values.get(member[1]) if member else None
    file = _LOADED.fullmatch(loaded) if isinstance(loaded, str) else None
    if member is None or file is None:
        return config.resolved(key, written)
    path = _file(config, file[1])
    held, _, _ = load_safely(path, zipped=container_of(path) == TORCH_ZIP)
    array = _array(held.get(member[2])) if isinstance(held, dict) else None
    if array is None:
        raise _no_array(path, member[2])
    return array.tolist()


def _array(held: object) -> NDArray[Any] | None:
    """The array that a placeholder of one stands for."""
    if not isinstance(held, Placeholder) or held.kind != "numpy.ndarray" or not isinstance(held.state, tuple):
        return None
    try:
        _, shape, kind, by_columns, data = held.state
        count = int(np.prod(shape))
        if not (_TYPES.fullmatch(kind.code) and isinstance(data, bytes) and 0 < count <= _MOST and by_columns is False):
            return None
        return np.frombuffer(data, np.dtype(kind.order + kind.code)).reshape(shape)
    except (ValueError, TypeError, AttributeError):
        return None


def _no_array(path: Path, name: str) -> CheckpointError:
    return refusal(path, f"has no array of at most {_MOST} numbers under {name}", "download the whole bundle")
