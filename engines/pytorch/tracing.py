"""A network traced by TorchScript, also one whose modules have attributes that cannot be read, and its file."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_LINES_OF_CODE = ".debug_pkl"  # ending of records
_VERSIONS = (".data/version", "version")  # the first where an operator needs version 6 or later
_OF_THE_WRITER = (*_VERSIONS, "byteorder", ".data/serialization_id")  # which adds them by itself


class _Held(nn.Module):
    """Calls a network that it holds outside its modules, and has the network's weights under the network's names.

    So a trace of it holds them as that of the network would, and moves them with ``.to(device)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        _take_weights(self, network)
        self._held = (network,)

    def forward(self, x: Tensor) -> Any:
        return self._held[0](x)


def trace_network(network: nn.Module, x: Tensor) -> Any:
    """The trace of `network`, in eval mode, on the tile `x`, ``[B, C, D, H, W]``; it is not checked against another.

    TorchScript reads every attribute of every module, and some raise, such as a LightningModule's ``trainer``. Of such
    a network the tensors alone are shown to it.
    """
    module = network if all(map(_is_readable, network.modules())) else _Held(network).eval()
    return torch.jit.trace(module, x, check_trace=False)  # type: ignore[no-untyped-call]


def save_trace(traced: Any, path: Path) -> None:
    """Write a trace without its records of the lines of code that it comes from, which hold paths on this machine."""
    whole = io.BytesIO()
    torch.jit.save(traced, whole)
    whole.seek(0)
    reader, writer = torch._C.PyTorchFileReader(whole), torch._C.PyTorchFileWriter(str(path))
    names = reader.get_all_records()
    writer.set_min_version(int(reader.get_record(next(name for name in _VERSIONS if name in names))))
    for name in names:
        if not name.endswith(_LINES_OF_CODE) and name not in _OF_THE_WRITER:
            content = reader.get_record(name)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def _is_readable(part: nn.Module) -> bool:
    if isinstance(part, torch.jit.ScriptModule):  # which TorchScript takes as it is
        return True
    try:
        for name in dir(part):
            hasattr(part, name)
    except Exception:  # whatever the user's code raises but AttributeError
        return False
    return True


def _take_weights(module: nn.Module, network: nn.Module) -> None:
    for name, parameter in network._parameters.items():
        module.register_parameter(name, parameter)
    for name, buffer in network._buffers.items():
        module.register_buffer(name, buffer, persistent=name not in network._non_persistent_buffers_set)
    for name, part in network._modules.items():
        if part is not None:
            module.add_module(name, inner := nn.Module())
            _take_weights(inner, part)
