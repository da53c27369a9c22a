"""A whole set of shards: each number once, all of one count, and of one list of cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from bench.errors import InputError
from bench.shard import Shard

Content = TypeVar("Content")


@dataclass(frozen=True)
class Part(Generic[Content]):
    """A folder, which shard it holds, and what was read of it."""

    folder: Path
    shard: Shard
    content: Content


def whole(parts: Sequence[Part[Content]]) -> list[Part[Content]]:
    """The parts in the order of their numbers.

    Raises:
        InputError: one is there twice, is of another number of shards, or some are missing.
    """
    first, by_number = parts[0], dict[int, Part[Content]]()
    for part in parts:
        if part.shard.count != first.shard.count:
            raise InputError(
                f"{part.folder}: shard {part.shard}, while {first.folder} is shard {first.shard}; merge shards of one "
                "number N"
            )
        other = by_number.setdefault(part.shard.number, part)
        if other is not part:
            same = other.folder.resolve() == part.folder.resolve()
            twice = "is named twice" if same else f"shard {part.shard}, as is {other.folder}"
            raise InputError(f"{part.folder}: {twice}; name each shard once")
    missing = [number for number in range(1, first.shard.count + 1) if number not in by_number]
    if missing:
        noun = "shard" if len(missing) == 1 else "shards"
        raise InputError(
            f"{noun} {', '.join(map(str, missing))} of {first.shard.count} missing; name the folder of each"
        )
    return [by_number[number] for number in sorted(by_number)]


def refuse_foreign(part: Part[Content], first: Part[Content], what: str, own: str, other: str) -> NoReturn:
    """Refuse a part that does not belong to the first, as `what` is `own` in it and `other` there.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{part.folder}: not a shard of the same as {first.folder}: {what} is {own}, there {other}; run it again with "
        "what the others had, or leave it out"
    )
