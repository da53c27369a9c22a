"""The network of a MONAI bundle, made from its configuration without running what that holds."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registration

from models.errors import CheckpointError, install, kind_and_line, one_line, refusal, sides
from models.model import Model, Step, Transforms, json_sha256
from models.monai import transforms
from models.monai.bundle import read_config
from models.monai.config import Config
from models.monai.inferer import Window, window_of
from models.monai.searched import make_searched, searched_arguments
from models.monai.task import channels_of, meaning_of
from models.networks.build import describe_network
from models.networks.weights import load_state, match_state
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.reader.container import SAFETENSORS, TORCH_LEGACY, TORCH_ZIP
from models.reader.source import Source
from models.user_code.isolation import user_files
from models.user_code.structure import structure_of

# Networks that segment a volume, of `monai.networks.nets`. Not all there may be made from what a file says: some
# download weights or open files that their arguments name.
NETWORKS = frozenset({
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DiNTS", "DynUNet", "FlexibleUNet", "HighResNet",
    "MedNeXt", "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNet", "UNETR", "VNet",
})  # fmt: skip
_KEYS = ("network_def", "network")
_LARGEST = 4096  # of any number among a network's arguments
_LARGEST_WINDOW = 14  # voxels: SwinUNETR makes an index of the sixth power of it


def build_bundle(checkpoint: Checkpoint, bundle: Path, options: ModelOptions) -> Model:
    """Build the network of the bundle in a folder, with its transforms, tile and task where `options` name no others.

    Where the user trusts the bundle, MONAI's ConfigParser makes the network, which runs what the configuration holds.

    Raises:
        CheckpointError: something in it needs running, or is not done here; or the weights are of another network.
    """
    config = read_config(bundle)
    nets = _import_networks(config)
    wanted: object = None
    if trusts_bundle(options, checkpoint.source):
        network, how = _parse_network(config), f"made by MONAI's ConfigParser, which --trust {bundle} allowed to run"
        code = json_sha256(config.values, [file.read_bytes().hex() for file in user_files()], structure_of(network))
    else:
        network, arguments = _make_network(config, nets, checkpoint.state)
        how, code = f"its arguments: {json.dumps(arguments)[:300]}", json_sha256(type(network).__name__, arguments)
        wanted = arguments.get("in_channels")
    kind = type(network).__name__
    window, channels = window_of(config, options), channels_of(config, wanted)
    name = f"{kind}, as {config.file.name} defines it"
    state, aside = match_state(checkpoint, network, name, "give weights and configuration of one and the same bundle")
    low_high = options.window or (0.0, 1.0)
    try:
        network = load_state(state, network)
        model = describe_network(network, f"MONAI {kind}", window.tile, low_high, channels=len(channels))
    except Exception as error:
        problem = f"its {kind} cannot be used on a tile of {sides(window.tile)}: {_error_text(error)}"
        raise refusal(config.file, problem, "choose another with --tile=X,Y,Z, or mend the configuration") from None
    model = _with_transforms(model, config, window, channels, options)
    code = code if model.bundle is None else json_sha256(code, asdict(model.bundle))
    evidence = f"network_def in {config.file.relative_to(bundle)}; {how}"
    return replace(model, code=code, remarks=(*model.remarks, *aside), evidence=evidence)


def _with_transforms(
    model: Model, config: Config, window: Window, channels: tuple[str, ...], options: ModelOptions
) -> Model:
    """`model` with the bundle's own way to the network and back, or with the window that the user names."""
    after = transforms.after(config)
    before = transforms.before(config) if options.window is None else transforms.Steps(())
    steps, said = transforms.with_inverse(before, after)
    bundle = Transforms(
        preprocessing=before.steps, postprocessing=steps, mode=window.mode, sigma_scale=window.sigma_scale,
        padding_mode=window.padding_mode, cval=window.cval,
    )  # fmt: skip
    meaning = meaning_of(config, channels, len(model.labels), bundle, after.painting, options.task)
    if meaning.painting is not None and after.painting is None and not _ends_in_threshold(steps):
        # Nothing says what is painted: a half and more.
        bundle = replace(bundle, postprocessing=(*steps, ("AsDiscreted", {"threshold": 0.5})))
    if options.window is not None:
        said = ("--window takes the place of its own transforms: volumes run as they are stored",)
    return replace(
        model,
        task=meaning.task,
        labels=meaning.labels,
        painting=meaning.painting,
        bundle=bundle if options.window is None else None,
        overlap=window.overlap if options.window is None else model.overlap,
        remarks=(*model.remarks, *meaning.remarks, *window.remarks, *said),
    )


def _ends_in_threshold(steps: Sequence[Step]) -> bool:
    """Whether the last step after the network makes a mask of each channel, which nothing interpolates any more."""
    return bool(steps) and steps[-1][0] == "AsDiscreted" and steps[-1][1].get("threshold") is not None


def trusts_bundle(options: ModelOptions, source: Source) -> bool:
    """Whether the user named the bundle with ``--trust``, or its weights; a program in it stands for itself alone."""
    weights = source.container in (TORCH_ZIP, TORCH_LEGACY, SAFETENSORS)
    return source.bundle is not None and (options.trusts(source.bundle) or (weights and options.trusts(source.path)))


def _import_networks(config: Config) -> ModuleType:
    try:
        from monai.networks import nets
    except ImportError:
        raise refusal(
            config.root, "is a MONAI bundle, and the package monai is not installed", install("monai")
        ) from None
    return nets


def _network_key(config: Config) -> str:
    return next((key for key in _KEYS if config.has(key)), _KEYS[0])


def _make_network(config: Config, nets: ModuleType, state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    key = _network_key(config)
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
    searched = made.__name__ == "DiNTS"
    arguments = (
        searched_arguments(config, wanted.key, dict(wanted.arguments))
        if searched
        else {name: config.resolved(f"{wanted.key}::{name}", value) for name, value in wanted.arguments.items()}
    )
    _refuse_costly(config, wanted.key, arguments)
    if made.__name__ == "SwinUNETR":
        arguments.pop("img_size", None)  # MONAI before 1.5 asked for it, and only checked it
    try:
        with _no_larger_than(state):
            return make_searched(nets, made, arguments) if searched else made(**arguments), arguments
    except Exception as error:
        problem = f"its {wanted.key} cannot be made: {made.__name__}: {_error_text(error)}"
        remedy = "give the configuration the weights were trained with, and install the MONAI it was written for"
        raise refusal(config.file, problem, remedy) from None


def _refuse_costly(config: Config, key: str, arguments: dict[str, Any]) -> None:
    """Refuse arguments that would make the network fetch something, or take all memory."""
    if arguments.get("pretrained"):
        raise config.refused(f"its {key}::pretrained downloads weights")
    stack: list[tuple[str, Any]] = list(arguments.items())
    while stack:
        name, value = stack.pop()
        if isinstance(value, list | dict):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [(name, member) for _, member in inner]
        elif isinstance(value, int | float) and not abs(value) <= (_LARGEST_WINDOW if "window" in name else _LARGEST):
            problem = f"its {key}::{name} has the number {str(value)[:30]}"
            raise refusal(config.file, problem, "give the configuration the weights were trained with")


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


def _parse_network(config: Config) -> nn.Module:
    """Let MONAI make the network, which runs what the configuration holds."""
    try:
        from monai.bundle.config_parser import ConfigParser

        parser = ConfigParser(dict(config.values))
        network = parser.get_parsed_content(_network_key(config))
    except Exception as error:
        problem = f"its network_def cannot be made by MONAI's ConfigParser: {_error_text(error.__cause__ or error)}"
        raise refusal(config.file, problem, "mend the configuration, or use --arch FILE.py:FACTORY") from None
    if not isinstance(network, nn.Module):
        raise refusal(config.file, f"its network_def makes a {type(network).__name__}", "let it make the network")
    return network


def _error_text(error: BaseException) -> str:
    return one_line(error) if isinstance(error, CheckpointError | ValueError) else kind_and_line(error)
