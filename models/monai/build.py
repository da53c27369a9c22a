"""The network of a MONAI bundle, made from its configuration without running what that holds."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registration

from models.errors import CheckpointError, refusal
from models.model import Model
from models.monai.bundle import INSTALL, Bundle
from models.monai.config import Config
from models.monai.preprocessing import afterwards, labels_of, tile_of, window_of
from models.networks.weights import put
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.reader.container import SAFETENSORS, TORCH_LEGACY, TORCH_ZIP
from models.user_code.factory import as_model, fitting
from models.user_code.isolation import user_files, user_imports

# Networks that segment a volume, of `monai.networks.nets`. Not all there may be made from what a file says: some
# download weights or open files that their arguments name.
NETWORKS = frozenset({
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "FlexibleUNet", "HighResNet", "MedNeXt",
    "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNet", "UNETR", "VNet",
})  # fmt: skip
_KEYS = ("network_def", "network")
_LARGEST = 4096  # of any number among a network's arguments
_LARGEST_WINDOW = 14  # voxels: SwinUNETR makes an index of the sixth power of it


def build_bundle(checkpoint: Checkpoint, bundle: Bundle, options: ModelOptions) -> Model:
    """Build a bundle's network, with the bundle's tile, window and labels where `options` names no others.

    Where the user trusts the bundle, MONAI's ConfigParser makes the network, which runs what the configuration holds.

    Raises:
        CheckpointError: something in it needs running, or is not done here; or the weights are of another network.
    """
    config = bundle.config()
    nets = _monai(config)
    if trusts(options, bundle, checkpoint):
        network, made = _parsed(config), f"made by MONAI's ConfigParser, which --trust {bundle.root} allowed to run"
        code = _hash(config.values, [file.read_bytes().hex() for file in user_files()])
    else:
        network, arguments = _made(config, nets, checkpoint.state)
        made, code = f"its arguments: {json.dumps(arguments)[:300]}", _hash(type(network).__name__, arguments)
    kind = type(network).__name__
    tile, window = tile_of(config, options), window_of(config, options)
    name = f"{kind}, as {config.file.name} defines it"
    state, aside = fitting(checkpoint, network, name, "give weights and configuration of one and the same bundle")
    try:
        model = as_model(put(state, network), f"MONAI {kind}", tile.sides, window.hu)
    except Exception as error:
        sides = " x ".join(map(str, tile.sides))
        found = f"its {kind} cannot be used on a tile of {sides}: {_line(error)}"
        raise refusal(config.file, found, "choose another with --tile=X,Y,Z, or mend the configuration") from None
    labels, of_labels = labels_of(config, len(model.labels))
    remarks = (*model.remarks, *aside, *of_labels, *window.remarks, *tile.remarks, *afterwards(config))
    evidence = f"network_def in {config.file.relative_to(bundle.root)}; {made}"
    return replace(model, labels=labels, code=code, remarks=remarks, evidence=evidence)


def trusts(options: ModelOptions, bundle: Bundle, checkpoint: Checkpoint) -> bool:
    """Whether the user named the bundle with ``--trust``, or its weights; a program in it stands for itself alone."""
    weights = checkpoint.container in (TORCH_ZIP, TORCH_LEGACY, SAFETENSORS)
    return options.trusts(bundle.root) or (weights and options.trusts(bundle.weights))


@contextmanager
def trusted_imports(options: ModelOptions | None) -> Iterator[None]:
    """The context in which a bundle that the user named finds its own Python files; without one, nothing special."""
    trust = options.trust if options is not None else None
    bundle = Bundle.of(trust) if trust is not None and trust.is_dir() else None
    if bundle is None:
        yield
        return
    with user_imports(bundle.root):
        yield


def _monai(config: Config) -> ModuleType:
    try:
        from monai.networks import nets
    except ImportError:
        raise refusal(config.root, "is a MONAI bundle, and the package monai is not installed", INSTALL) from None
    return nets


def _made(config: Config, nets: ModuleType, state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    key = next((one for one in _KEYS if config.has(one)), _KEYS[0])
    wanted = config.component(key) if config.has(key) else None
    if wanted is None:
        raise config.refused(f"its {key} names no class")
    written: Any = config.followed(key, config.values[key])[1]
    for name in ("_mode_", "_requires_", "_disabled_"):
        if written.get(name) not in (None, False, "default"):
            raise config.refused(f"its {wanted.key}::{name} is {str(written[name])[:80]!r}")
    module, made = wanted.target.rpartition(".")[0], getattr(nets, wanted.name, None)
    ours = module == "" or f"{module}.".startswith("monai.networks.nets.")
    if not (ours and inspect.isclass(made) and issubclass(made, nn.Module) and made.__name__ in NETWORKS):
        target = wanted.target[:120]
        raise config.refused(f"its {wanted.key}::_target_ is {target}, not one of MONAI's segmentation networks")
    arguments = {name: config.resolved(f"{wanted.key}::{name}", one) for name, one in wanted.arguments.items()}
    _check(config, wanted.key, arguments)
    if made.__name__ == "SwinUNETR":
        arguments.pop("img_size", None)  # MONAI before 1.5 asked for it, and only checked it
    try:
        with _no_larger_than(state):
            return made(**arguments), arguments
    except Exception as error:
        found = f"its {wanted.key} cannot be made: {made.__name__}: {_line(error)}"
        remedy = "give the configuration the weights were trained with, and install the MONAI it was written for"
        raise refusal(config.file, found, remedy) from None


def _check(config: Config, key: str, arguments: dict[str, Any]) -> None:
    """Refuse arguments that would make the network fetch something, or take all memory."""
    if arguments.get("pretrained"):
        raise config.refused(f"its {key}::pretrained downloads weights")
    stack: list[tuple[str, Any]] = list(arguments.items())
    while stack:
        name, value = stack.pop()
        if isinstance(value, list | dict):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [(name, one) for _, one in inner]
        elif isinstance(value, int | float) and not abs(value) <= (_LARGEST_WINDOW if "window" in name else _LARGEST):
            found = f"its {key}::{name} has the number {str(value)[:30]}"
            raise refusal(config.file, found, "give the configuration the weights were trained with")


@contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop the making of a network that has far more layers or parameters than `state` has weights."""
    layers, numbers = 20 * len(state) + 1000, 2 * sum(tensor.numel() for tensor in state.values()) + 1_000_000

    def count_layer(_module: nn.Module, _name: str, _layer: nn.Module | None) -> None:
        nonlocal layers
        layers -= 1
        if layers < 0:
            raise ValueError("it has far more layers than the file has weights for")

    def count_numbers(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal numbers
        numbers -= 0 if parameter is None else parameter.numel()
        if numbers < 0:
            raise ValueError("it has far more parameters than the file has weights")

    handles = (
        registration.register_module_module_registration_hook(count_layer),
        registration.register_module_parameter_registration_hook(count_numbers),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parsed(config: Config) -> nn.Module:
    """Let MONAI make the network, which runs what the configuration holds."""
    try:
        from monai.bundle.config_parser import ConfigParser

        parser = ConfigParser(dict(config.values))
        network = parser.get_parsed_content(next((key for key in _KEYS if config.has(key)), _KEYS[0]))
    except Exception as error:
        found = f"its network_def cannot be made by MONAI's ConfigParser: {_line(error.__cause__ or error)}"
        raise refusal(config.file, found, "mend the configuration, or use --arch FILE.py:FACTORY") from None
    if not isinstance(network, nn.Module):
        raise refusal(config.file, f"its network_def makes a {type(network).__name__}", "let it make the network")
    return network


def _hash(*made_of: Any) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()


def _line(error: BaseException) -> str:
    if isinstance(error, CheckpointError | ValueError):
        return " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
