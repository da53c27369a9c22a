"""Reading safetensors files: weights and strings, no code by design."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.errors import one_line, refusal

_MOST = 100_000  # tensors; a header may list millions of empty ones
_AT_ONCE = 16 * 2**20  # bytes
_AGAIN = "copy or download the file again, or save it anew with safetensors.torch.save_file"


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read the tensors, independent of the file, and the strings that were saved as its metadata.

    Raises:
        CheckpointError: the file is damaged, or its header lies about sizes.
    """
    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
        if len(names) <= _MOST:
            return _tensors(path, names), metadata
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise refusal(path, f"is a damaged safetensors file ({one_line(error)})", _AGAIN) from None
    raise refusal(path, f"holds {len(names)} tensors, and no network has more than {_MOST}", _AGAIN)


def _tensors(path: Path, names: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    waiting = names[::-1]
    while waiting:
        bytes_read = 0
        # The library maps the file, and what was read of it counts as memory of this process until it is closed. So it
        # is opened anew every few megabytes, and the weights are never there twice.
        with safe_open(path, "pt") as file:
            while waiting and bytes_read < _AT_ONCE:
                name = waiting.pop()
                tensors[name] = file.get_tensor(name).clone()
                bytes_read += tensors[name].nbytes
    return tensors
