"""Several networks as one session: engines need not know of ensembles."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench.peers import Peer
from engines.base import Backend, ClassCheck, Engine, Evidence, Session, Target, class_check_of, has_own_threads
from models.ensemble import ensemble_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model


@contextmanager
def open_all(
    engine: Engine, backend: Backend, models: Sequence["Model"], target: Target, apart: bool = False
) -> Iterator[Session]:
    """Open the networks of an ensemble one after the other; a single one as it is. `apart`: as of `EnsembleSession`.

    A reference pipeline is given all of them as one model, since it goes through them in its own way.

    Raises:
        EngineError: one of them cannot be built.
    """
    if isinstance(backend, Peer):
        models = [ensemble_of(models)]
    with ExitStack() as stack:
        sessions = [stack.enter_context(engine.open(model, target)) for model in models]
        yield sessions[0] if len(sessions) == 1 else EnsembleSession(sessions, apart)


class EnsembleSession:
    """The mean of the logits of several sessions on the same tiles, added up in their order as nnU-Net does.

    With `apart` those of the segmentation are not averaged: they are ``[B, networks x classes, D, H, W]``, one network
    after the other.
    """

    def __init__(self, sessions: Sequence[Session], apart: bool = False) -> None:
        self._sessions = sessions
        self._apart = apart

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        first, *others = self._sessions
        # Copies: a network may write into its input, and a session's next call, or another's, into its outputs.
        logits, classes = first.infer(x.clone())
        segmentation = logits.repeat(1, len(self._sessions), 1, 1, 1) if self._apart else logits.clone()
        classification, channels = classes.clone(), logits.shape[1]
        for number, session in enumerate(others, 1):
            logits, classes = session.infer(x.clone())
            if self._apart:
                segmentation[:, number * channels : (number + 1) * channels] = logits
            else:
                segmentation += logits
            classification += classes
        classification /= len(self._sessions)
        return segmentation if self._apart else segmentation.div_(len(self._sessions)), classification

    @property
    def class_check(self) -> ClassCheck | None:
        """That of all networks together: a mean changes by no more than the one that changes most."""
        checks = [check for session in self._sessions if (check := class_check_of(session)) is not None]
        if len(checks) < len(self._sessions):
            return None

        def infer(x: "Tensor") -> "Tensor":
            first, *others = (check.infer(x) for check in checks)
            return sum(others, first) / len(checks)

        return ClassCheck(max(check.lead for check in checks), infer)

    @property
    def own_threads(self) -> bool:
        return all(map(has_own_threads, self._sessions))

    def sync(self) -> None:
        for session in self._sessions:
            session.sync()

    def evidence(self) -> Evidence:
        """What ran in all of them: their providers, the mean of their shares, and of details the first's."""
        each = [session.evidence() for session in self._sessions]
        precisions = dict.fromkeys(name for evidence in each for name in evidence.mac_share)
        share = {name: sum(evidence.mac_share.get(name, 0.0) for evidence in each) / len(each) for name in precisions}
        details = {**each[0].details, "networks": len(each)}
        if self.class_check is not None:
            details["class_check_below"] = self.class_check.lead
        if "cached" in details:
            details["cached"] = all(evidence.details.get("cached") for evidence in each)
        return Evidence(" + ".join(dict.fromkeys(evidence.provider for evidence in each)), share, details)
