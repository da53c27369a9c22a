"""A fixed part of the cases, for one of several machines. Nothing is imported here, as in `bench.choices`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """The part `number`, from 1, of `count` parts."""

    number: int
    count: int

    def __str__(self) -> str:
        """``3/8``"""
        return f"{self.number}/{self.count}"

    @classmethod
    def of(cls, text: str) -> "Shard":
        """What `str` gives.

        Raises:
            ValueError: it is something else.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"{text!r} is not a shard, numbered from 1, of so many, as in 3/8")
        return cls(int(number), int(count))

    def names(self, cases: Sequence[str]) -> list[str]:
        """Of the names of all cases its own: sorted and counted from 0, name k belongs to shard k mod `count` + 1.

        So it depends on the list alone, and cases of neighbouring names, such as those of one class, are spread.
        """
        return sorted(cases)[self.number - 1 :: self.count]
