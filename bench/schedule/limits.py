"""How much is measured at the least and at the most."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a run beyond what its settings say.

    Attributes:
        rounds: of ``--rounds auto`` at the most; past that the noise is not of the kind that more rounds average out.
        launches: of the processes at the least, before a claim counts as converged and in the confirmation. Two
            processes of the same variant differ, so one pair would take its own luck for the variant's.
        relaunch_cost: the processes are launched anew before a round once the rounds since the last launch have taken
            this many times as long as that launch did.
        peak: whether the device's peak is measured.
        confirmation: whether the winner is timed again on fresh samples; without it nothing is CONFIRMED.
    """

    rounds: int = 20
    launches: int = 3
    relaunch_cost: float = 1.0
    peak: bool = True
    confirmation: bool = True

    @property
    def stopping(self) -> dict[str, float]:
        """Those that say when a run ends, by the names that a declaration gives them."""
        return {"most_rounds": self.rounds, "least_launches": self.launches, "relaunch_cost": self.relaunch_cost}


DEFAULT = Limits()
