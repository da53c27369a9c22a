"""A server of a model that runs whole cases, as a client sees it: KServe's protocol v2 over gRPC."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import numpy as np

from bench.errors import BackendLostError, InputError
from bench.package.formats.case_tensors import ABOUT, BUSY, CLASS, IMAGE, MASK, PROBABILITIES, SECONDS
from models.errors import install

SCHEMES = {"grpc": False, "grpcs": True}  # and whether the connection is encrypted
_UNBOUNDED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
# Between two pings, by which both sides see that the other one is gone. While nothing is sent, as in a long case, a
# gRPC server by default allows one in 300 s, and closes the connection after a few that come sooner (too_many_pings).
_KEPT_OPEN_S = 330
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # before a busy server is asked again; the last one from then on
_FULL_QUEUE = "Exceeds maximum queue size"  # Triton's words
_OF_THE_CASE = ("INVALID_ARGUMENT", "INTERNAL", "UNKNOWN", "FAILED_PRECONDITION")


@dataclass(frozen=True)
class About:
    """What predicts there.

    Attributes:
        identity: as of `bench.plan.opening.Opening`. source: its name.
        channels, classes: of the network, by name. labels: in masks, by name.
        voxbench: its version there.
    """

    source: str
    identity: Mapping[str, str]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Mapping[str, int]
    voxbench: str


@dataclass(frozen=True)
class Prediction:
    """What a server said of a case.

    Attributes:
        mask: a gzipped NIfTI file. number: of the class; None without a classification.
        seconds: that it took there, the way over the network and the queue left out.
        identity: of the model that answered, as of `About`.
    """

    mask: bytes
    number: int | None
    probabilities: tuple[float, ...]
    seconds: float
    identity: Mapping[str, str]


class CaseRefusedError(InputError):
    """The server cannot predict this case; others may go on."""


class Server:
    """A connection to a model; several threads may use it.

    Attributes:
        url: of the server. model: its name there.
    """

    def __init__(self, url: str, model: str, timeout_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Connect; nothing is asked yet.

        Raises:
            InputError: `url` is none, or the client's package is missing.
        """
        self.url, self.model = url, model
        self._timeout_s = timeout_s
        self._sleep = sleep
        scheme, separator, address = url.partition("://")
        if not separator or scheme not in SCHEMES or ":" not in address:
            raise InputError(f"--url {url}: give grpc://HOST:PORT, or grpcs:// for an encrypted connection")
        try:
            self._grpc: Any = import_module("tritonclient.grpc")
        except ImportError:
            raise InputError(f"--url: needs the client of KServe's protocol; {install('client')}") from None
        keepalive = (("grpc.keepalive_time_ms", _KEPT_OPEN_S * 1000),)
        self._client: Any = self._grpc.InferenceServerClient(
            address.rstrip("/"), ssl=SCHEMES[scheme], channel_args=[*_UNBOUNDED, *keepalive]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight, and disconnect."""
        with suppress(Exception):
            self._client.close()

    def about(self) -> About:
        """Ask what the model is.

        Raises:
            InputError: it is not there, not ready, or none that runs cases.
            BackendLostError: the server cannot be reached.
        """
        try:
            return self._about(self._infer([b""], (ABOUT,)))
        except CaseRefusedError as error:
            raise InputError(f"{self._name}: {error}") from None

    def _about(self, answer: Any) -> About:
        try:
            held = json.loads(_file(answer, ABOUT))
            return About(
                held["source"], held["identity"], tuple(held["channels"]), tuple(held["classes"]), held["labels"],
                held["voxbench"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(
                f"{self._name}: does not say what it predicts; serve what `bench export --format triton` or mlserver "
                "wrote (a Triton before 24.12 needs NumPy 1 in the Python of its models)"
            ) from None

    def predict(self, files: Sequence[bytes]) -> Prediction:
        """Have a case predicted whose channels are `files`, NIfTI each; a busy server is asked until it has time.

        Raises:
            CaseRefusedError: it cannot be predicted.
            BackendLostError: the server cannot be reached any more, or has not answered in time.
        """
        answer = self._infer(files, (MASK, CLASS, PROBABILITIES, SECONDS, ABOUT))
        identity = self._about(answer).identity
        number = int(answer.as_numpy(CLASS).item())
        likely = tuple(float(value) for value in answer.as_numpy(PROBABILITIES).ravel())
        seconds = float(answer.as_numpy(SECONDS).item())
        if number < 0:
            return Prediction(_file(answer, MASK), None, (), seconds, identity)
        return Prediction(_file(answer, MASK), number, likely, seconds, identity)

    def _infer(self, files: Sequence[bytes], outputs: Sequence[str]) -> Any:
        image = self._grpc.InferInput(IMAGE, [1, len(files)], "BYTES")
        image.set_data_from_numpy(np.array([[*files]], object))
        wanted = [self._grpc.InferRequestedOutput(name) for name in outputs]
        end, pauses = time.monotonic() + self._timeout_s, iter(_PAUSES_S)
        while True:
            left = end - time.monotonic()
            try:
                return self._client.infer(self.model, [image], outputs=wanted, client_timeout=max(left, 0.001))
            except Exception as error:  # of tritonclient's one class, and gRPC's own
                status, message = _status(error)
                if not (message.startswith(f"{BUSY}: ") or _FULL_QUEUE in message) or left <= 0:
                    raise self._worded(status, message) from None
            self._sleep(next(pauses, _PAUSES_S[-1]))

    def _worded(self, status: str, message: str) -> Exception:
        if status == "DEADLINE_EXCEEDED":
            return BackendLostError(f"{self._name}: no answer within {self._timeout_s:g} s (--timeout gives it longer)")
        if status in ("NOT_FOUND", "UNIMPLEMENTED"):
            return InputError(f"{self._name}: not there ({message}); name a model that the server has")
        if status in _OF_THE_CASE:
            return CaseRefusedError(message)
        return BackendLostError(f"{self._name}: cannot be reached ({message}); see whether the server is ready")

    @property
    def _name(self) -> str:
        return f"{self.model} at {self.url}"


def _file(answer: Any, name: str) -> bytes:
    return bytes(answer.as_numpy(name).item())


def _status(error: Exception) -> tuple[str, str]:
    """gRPC's name of the status, and the message in one line."""
    status = getattr(error, "status", lambda: None)()
    message = getattr(error, "message", lambda: str(error))()
    return str(status).rpartition(".")[2], " ".join(str(message).split())[:300] or type(error).__name__
