"""The network that nnU-Net's plans describe. What they name is looked up in the tables here, and never imported."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from models.errors import some

_PACKAGE = "dynamic_network_architectures."
_MOST_STAGES, _MOST_CHANNELS, _MOST_LAYERS, _LARGEST_KERNEL = 12, 4096, 32, 15
_LAYERS = {
    "conv_op": (nn.Conv3d,),
    "norm_op": (nn.InstanceNorm3d, nn.BatchNorm3d),
    "dropout_op": (nn.Dropout3d, nn.Dropout),
    "nonlin": (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Mish),
}
_COUNTS = ("features_per_stage", "stem_channels", "bottleneck_channels")
_REPEATS = ("n_stages", "n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder")
_SIDES = ("kernel_sizes", "strides")
_SWITCHES = ("conv_bias", "nonlin_first")
_OPTIONS = {
    "norm_op_kwargs": ("eps", "affine", "momentum", "track_running_stats"),
    "dropout_op_kwargs": ("p", "inplace"),
    "nonlin_kwargs": ("inplace", "negative_slope", "alpha"),
}


def planned_network(architecture: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """Call the known class that the plans name, for `channels` in and `outputs`, with arguments of known kinds.

    Raises:
        ValueError, and what the class itself raises: something is not known, too large, or does not fit together.
    """
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
    from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD

    networks = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}
    path, name = str(architecture.get("network_class_name")), class_name(architecture)
    if not path.startswith(_PACKAGE) or name not in networks:
        raise ValueError(f"name the network {path[:80]!r} (known are {', '.join(networks)})")
    known = {**_LAYERS, "block": (BasicBlockD, BottleneckD)}
    named, held = architecture.get("_kw_requires_import", []), architecture.get("arch_kwargs")
    if not isinstance(held, dict) or not isinstance(named, list):
        raise ValueError("have no arguments for the network")
    unknown = [str(name) for name in named if name not in known]
    if unknown:
        raise ValueError(f"want to import {some(unknown)}, which is not known here")
    arguments = {key: _argument(key, value, known) for key, value in held.items() if key != "deep_supervision"}
    return networks[name](input_channels=channels, num_classes=outputs, deep_supervision=False, **arguments)  # type: ignore[no-any-return]


def as_trained(architecture: Mapping[str, Any], weights: Iterable[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The architecture of weights by their names, and what is to be said of it: nnUNetTrainerBN changes the plans'."""
    held = architecture.get("arch_kwargs")
    if not isinstance(held, dict) or "InstanceNorm" not in str(held.get("norm_op")) or "track_running" in str(held):
        return architecture, []
    if not any(name.endswith("norm.running_mean") for name in weights):
        return architecture, []
    changed = {"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    remark = "batch norms in the place of its plans' instance norms, as nnUNetTrainerBN trains (eps 1e-5)"
    return {**architecture, "arch_kwargs": {**held, **changed}}, [remark]


def _argument(key: str, value: Any, known: Mapping[str, tuple[type, ...]]) -> Any:
    shown = f"{str(value)[:80]!r}"
    if key in known:
        # By the two names that a class of torch.nn has; nothing is imported by its name.
        table = {
            name: layer
            for layer in known[key]
            for name in (f"torch.nn.{layer.__name__}", f"{layer.__module__}.{layer.__name__}")
        }
        if value is not None and (not isinstance(value, str) or value not in table):
            raise ValueError(f"name {shown} as {key} (known are {', '.join(layer.__name__ for layer in known[key])})")
        return None if value is None else table[value]
    if key in _SWITCHES and isinstance(value, bool):
        return value
    if key in _OPTIONS and (value is None or (isinstance(value, dict) and _are_options(value, _OPTIONS[key]))):
        return value
    if key in _COUNTS and (value is None or _are_whole(value, _MOST_CHANNELS)):
        return value
    if key in _REPEATS and _are_whole(value, _MOST_STAGES if key == "n_stages" else _MOST_LAYERS):
        return value
    if key in _SIDES and _are_whole(value, _LARGEST_KERNEL, nested=True):
        return value
    raise ValueError(f"give the network {str(key)[:40]} = {shown}, which is not known here")


def _are_options(held: Mapping[str, Any], known: tuple[str, ...]) -> bool:
    return all(
        name in known and (value is None or isinstance(value, bool | int | float)) for name, value in held.items()
    )


def _are_whole(value: Any, most: int, nested: bool = False) -> bool:
    """Whether it is a number from 1 to `most`, or one for each stage, or three for each."""
    if isinstance(value, list):
        return 0 < len(value) <= _MOST_STAGES and all(
            _are_whole(entry, most) and (nested or not isinstance(entry, list)) for entry in value
        )
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def class_name(architecture: Mapping[str, Any]) -> str:
    """Name of the network's class, such as ``PlainConvUNet``."""
    return str(architecture.get("network_class_name")).rpartition(".")[2][:80]
