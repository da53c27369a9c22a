"""Several networks as one session, whose logits are the mean of theirs: engines need not know of ensembles."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench.peers import Peer
from engines.base import Backend, Engine, Evidence, Session, Target
from models.ensemble import ensemble_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.model import Model


@contextmanager
def open_all(engine: Engine, backend: Backend, models: Sequence["Model"], target: Target) -> Iterator[Session]:
    """Open the networks of an ensemble one after the other; a single one as it is.

    A reference pipeline is given all of them as one model, since it goes through them in its own way.

    Raises:
        EngineError: one of them cannot be built.
    """
    if isinstance(backend, Peer):
        models = [ensemble_of(models)]
    with ExitStack() as stack:
        sessions = [stack.enter_context(engine.open(model, target)) for model in models]
        yield sessions[0] if len(sessions) == 1 else EnsembleSession(sessions)


class EnsembleSession:
    """The mean of the logits of several sessions on the same tiles, added up in their order as nnU-Net does."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def infer(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        first, *others = self._sessions
        # Copies: a network may write into its input, and a session's next call, or another's, into its outputs.
        segmentation, classification = (logits.clone() for logits in first.infer(x.clone()))
        for session in others:
            further, classes = session.infer(x.clone())
            segmentation += further
            classification += classes
        return segmentation.div_(len(self._sessions)), classification.div_(len(self._sessions))

    def sync(self) -> None:
        for session in self._sessions:
            session.sync()

    def evidence(self) -> Evidence:
        """What ran in all of them: their providers, the mean of their shares, and of details the first's."""
        each = [session.evidence() for session in self._sessions]
        precisions = dict.fromkeys(name for evidence in each for name in evidence.mac_share)
        share = {name: sum(evidence.mac_share.get(name, 0.0) for evidence in each) / len(each) for name in precisions}
        details = {**each[0].details, "networks": len(each)}
        if "cached" in details:
            details["cached"] = all(evidence.details.get("cached") for evidence in each)
        return Evidence(" + ".join(dict.fromkeys(evidence.provider for evidence in each)), share, details)
