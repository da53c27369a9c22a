"""Logits that are not finite: seen in their sums, and traced back to the tiles that gave them.

NaN and infinity stay in whatever they are added to, as every weight of a tile is positive. So an ordinary case costs
one reading of its sums, and only a case whose sums are not finite runs its tiles once more, to count those at fault.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import NotFiniteError

REMEDY = (
    "mend what gives them in the network's forward (a tile without spread divides by 0), use a wider precision, "
    "or take the case out"
)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite: then their sum is finite too, unless it alone overflows."""
    return math.isfinite(values.sum(dtype=torch.float32)) or bool(values.isfinite().all())


class TileCounts:
    """Counts tiles, and those whose logits are not finite; `classifies` says whether the classification counts.

    Attributes:
        tiles, at_fault: so far.
    """

    def __init__(self, classifies: bool) -> None:
        self.tiles = self.at_fault = 0
        self._classifies = classifies
        self._kinds: set[str] = set()

    def add(self, segmentation: Tensor, classification: Tensor) -> None:
        """Count tiles by their logits, ``[n, C, D, H, W]`` and ``[n, K]``."""
        for logits, votes in zip(segmentation, classification, strict=True):
            looked_at = torch.cat([logits.flatten(), votes.flatten()]) if self._classifies else logits
            self.tiles += 1
            self.at_fault += not is_finite(looked_at)
            self._kinds |= {"NaN"} if looked_at.isnan().any() else set()
            self._kinds |= {"infinite"} if looked_at.isinf().any() else set()

    def error(self, otherwise: NotFiniteError) -> NotFiniteError:
        """Names the share of the tiles at fault, or is `otherwise` where there are none."""
        if not self.at_fault:
            return otherwise
        kinds = " and ".join(sorted(self._kinds))
        return NotFiniteError(
            f"{self.at_fault} of {self.tiles} tiles gave logits that are not finite ({kinds}); {REMEDY}"
        )


def overflow(dtype: torch.dtype) -> NotFiniteError:
    """The error of sums that are not finite, although every tile's logits are."""
    name = str(dtype).removeprefix("torch.")
    theirs = ", in which nnU-Net adds them up (its own predictor stops here too)" if dtype == torch.float16 else ""
    return NotFiniteError(f"the sums of its tiles' logits overflow {name}{theirs}; take the case out")


@contextmanager
def of_case(image_path: Any) -> Iterator[None]:
    """Name the case's file in a `NotFiniteError` that is raised within."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{Path(image_path).name}: {error}") from None
