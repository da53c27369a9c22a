"""Labels of a case that were made elsewhere, as a mask on the image that lies here."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.cases import refuse_other_channels
from bench.data.layouts import CaseFiles
from bench.data.write import write_mask
from bench.predict.journal import Journal
from bench.worker.lines import Line, append
from bench.worker.messages import BatchCase


def header_of(case: BatchCase, channels: Sequence[str]) -> Any:
    """The image of the first channel without its voxels, on which the mask will lie.

    Raises:
        InputError: it cannot be opened, or the case has not the `channels` of the network.
    """
    files = CaseFiles(case.name, tuple(Path(image.path) for image in case.images), None, None)
    return refuse_other_channels(files, len(channels), channels)[0]


def write_labels(
    journal: Journal, case: BatchCase, labels: NDArray[np.uint8], header: Any, names: Mapping[int, str], line: Line
) -> None:
    """Write the case's line, and only then give its mask its name; `line` holds what is known from elsewhere.

    Raises:
        StorageError, InputError: as of `bench.data.write.write_mask`.
    """

    def write_line(content: bytes) -> None:
        written = replace(
            line, case=case.name, images=case.images, mask=case.mask,
            mask_sha256=hashlib.sha256(content).hexdigest(), written_unix_s=round(time.time(), 3),
        )  # fmt: skip
        append(journal.path, written.encoded())

    write_mask(journal.folder / case.mask, labels, header, names, write_line)
