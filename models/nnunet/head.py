"""Classification heads that forks of nnU-Net hang on its encoder.

A head is built only where names and shapes leave one reading: its function is not in a checkpoint, only its weights.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.errors import refusal, some
from models.networks.weights import load_state
from models.reader.checkpoint import Checkpoint

_HEAD = re.compile(r"^(classification_?head|cls_?head|class_?head|classifier)\.", re.IGNORECASE)
_NORM = re.compile(r"(^|\.)(layer_?norm|norm|ln)\.(weight|bias)$", re.IGNORECASE)
_OWN = "name the code that made it with --arch FILE.py:FACTORY"


class Head(nn.Module):
    """Global average pool, LayerNorm (eps 1e-5) where there is one, and one Linear layer."""

    def __init__(self, features: int, subtypes: int, norm: bool, bias: bool) -> None:
        super().__init__()
        self.subtypes = subtypes
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.norm = nn.LayerNorm(features) if norm else nn.Identity()
        self.linear = nn.Linear(features, subtypes, bias=bias)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Map ``[B, features, d, h, w]`` to logits ``[B, subtypes]``."""
        logits: Tensor = self.linear(self.norm(self.pool(bottleneck).flatten(1)))
        return logits


class NetworkWithHead(nn.Module):
    """A segmentation network of nnU-Net whose deepest features a head classifies."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, channels, D, H, W]`` to logits ``[B, classes, D, H, W]`` and ``[B, subtypes]``."""
        skips = self.backbone.encoder(x)  # type: ignore[operator]
        return self.backbone.decoder(skips), self.head(skips[-1])  # type: ignore[operator]


def head_of(checkpoint: Checkpoint, weights: Mapping[str, Tensor], channels: Sequence[int]) -> tuple[Head, str]:
    """Build the head that `weights` are of, on the last of the encoder's `channels`; say what was assumed.

    Raises:
        CheckpointError: what it computes does not follow from the names and shapes of its weights.
    """
    missing = _missing(weights, channels)
    if missing:
        problem = f"has a classification head ({some(list(weights), 4)}), and the file does not say {missing}"
        raise refusal(checkpoint.path, problem, _OWN)
    linear = next(name for name, tensor in weights.items() if tensor.ndim == 2)
    renamed = {
        ("norm." if _NORM.search(name) else "linear.") + name.rpartition(".")[2]: t for name, t in weights.items()
    }
    subtypes, features = weights[linear].shape
    head = Head(features, subtypes, "norm.weight" in renamed, "linear.bias" in renamed)
    load_state(renamed, head)
    norm = "LayerNorm (eps 1e-5), " if "norm.weight" in renamed else ""
    layers = f"global average pool of the encoder's deepest features, {norm}Linear {features} to {subtypes}"
    return head, f"classification head taken for: {layers}; if it is another, name its code with --arch"


def _missing(weights: Mapping[str, Tensor], channels: Sequence[int]) -> str | None:
    """What the file would have to say and does not; None where the head is clear."""
    linears = [name for name, tensor in weights.items() if tensor.ndim == 2]
    norms = {name.rpartition(".")[2]: tensor for name, tensor in weights.items() if _NORM.search(name)}
    known = {*linears, *(f"{name.rpartition('.')[0]}.bias" for name in linears)}
    others = [name for name in weights if name not in known and not _NORM.search(name)]
    if any(tensor.ndim == 5 for tensor in weights.values()):
        return "which features its convolutions take and what lies between them"
    if any("gem" in name.lower() or name.endswith(".p") for name in weights):
        return "how its pooling (GeM) masks and clamps"
    if len(linears) > 1:
        return f"which activation lies between its {len(linears)} Linear layers"
    if others or len({name.partition(".")[0] for name in weights}) > 1 or not all(map(_HEAD.match, weights)):
        return f"what {some(others or list(weights))} is for"
    if not linears or (norms and {"weight", "bias"} != set(norms)):
        return "what it computes"
    features = weights[linears[0]].shape[1]
    if features != channels[-1] or any(tuple(tensor.shape) != (features,) for tensor in norms.values()):
        return f"where its {features} features come from; the encoder's deepest are {channels[-1]}"
    return None
