"""Many cases predicted by a server: sent without names; masks and lines are written here."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from bench.data.cases import refuse_other_channels
from bench.data.compression import ERRORS, gunzip_within
from bench.data.layouts import CaseFiles
from bench.data.write import write_mask
from bench.errors import InputError, StorageError
from bench.images.anonymous import anonymised
from bench.predict.journal import Journal
from bench.progress import Progress
from bench.serving.server import About, CaseRefusedError, Prediction, Server
from bench.worker.lines import FAILED, OK, Line, append
from bench.worker.messages import BatchCase

_HEADER = 2**16  # bytes of a mask that are no voxels, at most
_UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError, HeaderDataError, WrapStructError, ValueError, EOFError, *ERRORS
)  # fmt: skip


class Remote:
    """Has a server run cases into a journal, a few at a time, so that neither side waits for the network.

    Attributes:
        wall_s: seconds in which there were cases to run.
        server_s: of the predicted cases, what the server took for them. opened: what predicts.
    """

    def __init__(self, server: Server, about: About, journal: Journal, in_flight: int, progress: Progress) -> None:
        self.wall_s = self.server_s = 0.0
        self.opened = about
        self._server = server
        self._about = about
        self._journal = journal
        self._in_flight = in_flight
        self._progress = progress
        self._names = {number: name for name, number in about.labels.items()}

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase], faults: Sequence[Line] = ()) -> None:
        """Run fresh cases and those that failed before; `faults` are lines of cases that cannot be run at all.

        Raises:
            StorageError: a mask or a line cannot be written.
            BackendLostError: the server cannot be reached any more, or does not answer in time.
        """
        cases = [*fresh, *failed]
        self._progress.start("predicting", len(cases) + len(faults))
        for line in faults:
            self._journal.add(line)
        self._follow()
        begun, pool = time.monotonic(), ThreadPoolExecutor(self._in_flight, "case")
        try:
            ended: list[Future[None]] = [pool.submit(self._case, case) for case in cases]
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
        begun = time.monotonic()
        try:
            header = self._header(case)
            answer = self._server.predict([anonymised(Path(image.path))[1] for image in case.images])
            self._write(case, header, answer, begun)
        except StorageError:
            raise
        except InputError as error:
            reason = " ".join(str(error).split())
            append(self._journal.path, Line(case=case.name, images=case.images, status=FAILED, reason=reason).encoded())

    def _header(self, case: BatchCase) -> Any:
        """The image of the first channel without its voxels, on which the mask will lie."""
        files = CaseFiles(case.name, tuple(Path(image.path) for image in case.images), None, None)
        return refuse_other_channels(files, len(self._about.channels), self._about.channels)[0]

    def _write(self, case: BatchCase, header: Any, answer: Prediction, begun: float) -> None:
        """Write the case's line, and only then give its mask its name."""
        labels = labels_of(answer.mask, header.shape)

        def write_line(content: bytes) -> None:
            line = Line(
                case=case.name,
                images=case.images,
                status=OK,
                mask=case.mask,
                mask_sha256=hashlib.sha256(content).hexdigest(),
                number=answer.number,
                class_name=None if answer.number is None else self._about.classes[answer.number],
                probabilities=answer.probabilities,
                seconds={"server": round(answer.seconds, 6), "case": round(time.monotonic() - begun, 6)},
            )
            append(self._journal.path, line.encoded())

        write_mask(self._journal.folder / case.mask, labels, header, self._names, write_line)

    def _follow(self) -> None:
        for line in self._journal.follow():
            self._progress.advance(line.case)
            if line.status == FAILED:
                self._progress.note(f"{line.case} failed: {line.reason}")
            else:
                self.server_s += line.seconds.get("server", 0.0)


def labels_of(mask: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The labels ``[X, Y, Z]`` of a gzipped NIfTI file of a server, the first axis contiguous.

    Raises:
        CaseRefusedError: it is no mask of an image of this `shape`.
    """
    try:
        content = gunzip_within(mask, int(np.prod(shape)) + _HEADER) or b""
        kind = (
            nib.Nifti2Image if int.from_bytes(content[:4], "little") == nib.Nifti2Header.sizeof_hdr else nib.Nifti1Image
        )
        image: Any = kind.from_bytes(content)
        labels: NDArray[np.uint8] = np.asanyarray(image.dataobj)
    except _UNREADABLE:
        raise CaseRefusedError("the server's mask is no gzipped NIfTI file of the size of the image") from None
    if labels.shape != shape or labels.dtype != np.uint8:
        raise CaseRefusedError(f"the server's mask is {labels.dtype} of {labels.shape}, its image {shape}")
    return labels
