"""Many cases predicted by a server: sent without names; masks and lines are written here."""

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from bench.data.compression import ERRORS, gunzip_within
from bench.errors import BackendLostError, InputError, StorageError
from bench.images.anonymous import anonymised
from bench.predict.header import first_difference
from bench.predict.journal import Journal
from bench.predict.labels import header_of, write_labels
from bench.progress import Progress
from bench.serving.server import About, CaseRefusedError, Prediction, Server
from bench.worker.lines import OK, Line
from bench.worker.messages import BatchCase

_HEADER = 2**16  # bytes of a mask that are no voxels, at most
_UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError, HeaderDataError, WrapStructError, ValueError, EOFError, *ERRORS
)  # fmt: skip


class Remote:
    """Has a server run cases into a journal, a few at a time, so that neither side waits for the network.

    Attributes:
        wall_s: seconds in which there were cases to run.
        server_s: of the predicted cases, what the server took for them.
        opened: what predicts.
    """

    def __init__(self, server: Server, about: About, journal: Journal, in_flight: int, progress: Progress) -> None:
        self.wall_s = self.server_s = 0.0
        self.opened = about
        self._server = server
        self._journal = journal
        self._in_flight = in_flight
        self._progress = progress
        self._names = {number: name for name, number in about.labels.items()}

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase]) -> None:
        """Run fresh cases and those that failed before.

        Raises:
            StorageError: a mask or a line cannot be written.
            BackendLostError: the server cannot be reached any more, does not answer in time, or serves another model.
        """
        begun, pool = time.monotonic(), ThreadPoolExecutor(self._in_flight, "case")
        try:
            ended: list[Future[None]] = [pool.submit(self._case, case) for case in (*fresh, *failed)]
            for each in as_completed(ended):
                each.result()
                self._follow()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._server.close()  # whose threads then come to their end
            raise
        finally:
            pool.shutdown()
            self.wall_s = time.monotonic() - begun
            self._follow()

    def _case(self, case: BatchCase) -> None:
        """One case from file to file, in a thread of its own."""
        begun, about = time.monotonic(), self.opened
        try:
            header = header_of(case, about.channels)
            answer = self._server.predict([anonymised(Path(image.path))[1] for image in case.images])
            self._refuse_other(answer)
            line = Line(
                case=case.name,
                images=case.images,
                status=OK,
                number=answer.number,
                class_name=None if answer.number is None else about.classes[answer.number],
                probabilities=answer.probabilities,
                seconds={"server": round(answer.seconds, 6), "case": round(time.monotonic() - begun, 6)},
            )
            write_labels(self._journal, case, labels_of(answer.mask, header.shape), header, self._names, line)
        except StorageError:
            raise
        except InputError as error:
            self._journal.fail(case, error)

    def _refuse_other(self, answer: Prediction) -> None:
        """Refuse a mask of a model that took the first one's place on the server."""
        if (difference := first_difference(self.opened.identity, answer.identity)) is not None:
            key, was, now = difference
            raise BackendLostError(
                f"{self._server.model} at {self._server.url}: serves another model than when the call began ({key} was "
                f"{was}, is {now}); serve the first one again, or choose another --out"
            )

    def _follow(self) -> None:
        for line in self._journal.show(self._progress):
            self.server_s += line.seconds.get("server", 0.0)


def labels_of(mask: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The labels ``[X, Y, Z]`` of a gzipped NIfTI file of a server, the first axis contiguous.

    Raises:
        CaseRefusedError: it is no mask of an image of this `shape`.
    """
    try:
        content = gunzip_within(mask, int(np.prod(shape)) + _HEADER) or b""
        second = int.from_bytes(content[:4], "little") == nib.Nifti2Header.sizeof_hdr
        image: Any = (nib.Nifti2Image if second else nib.Nifti1Image).from_bytes(content)
        labels: NDArray[np.uint8] = np.asanyarray(image.dataobj)
    except _UNREADABLE:
        raise CaseRefusedError("the server's mask is no gzipped NIfTI file of the size of the image") from None
    if labels.shape != shape or labels.dtype != np.uint8:
        raise CaseRefusedError(f"the server's mask is {labels.dtype} of {labels.shape}, its image {shape}")
    return labels
