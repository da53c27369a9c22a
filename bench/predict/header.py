"""The first line of a journal: what predicts, and of a shard also which of how many it is, and which cases it has."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import InputError
from bench.shard import Shard

SCHEMA = 1
_SHOWN = 40  # characters of a value in a message


@dataclass(frozen=True)
class ShardHeader:
    """What a journal says of the shard whose cases it has; `command` goes on with it."""

    number: int
    count: int
    cases: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Header:
    """The first line of a journal; `shard` is None where it is of all cases."""

    identity: Mapping[str, str]
    classes: tuple[str, ...]
    shard: ShardHeader | None

    @property
    def text(self) -> str:
        """The line."""
        parts = {"schema": SCHEMA, "voxbench": __version__, "identity": self.identity, "classes": self.classes}
        return json.dumps(parts | ({} if self.shard is None else {"shard": asdict(self.shard)})) + "\n"

    @classmethod
    def read(cls, path: Path, remedy: str) -> "Header":
        """Of the journal at `path`.

        Raises:
            InputError: it does not say what predicted, or is of another version; ends in `remedy`.
        """
        try:
            with path.open("rb") as file:
                held: dict[str, Any] = json.loads(file.readline())
            schema, identity, shard = held["schema"], dict[str, str](held["identity"]), held.get("shard")
            own = None if shard is None else ShardHeader(**shard | {"cases": tuple(shard["cases"])})
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(f"{path}: its first line does not say what predicted; {remedy}") from None
        if schema != SCHEMA:
            raise InputError(f"{path}: schema {schema!r}, while this version reads schema {SCHEMA}; {remedy}")
        return cls(identity, tuple(held.get("classes", ())), own)


def identity_of_shard(shard: Shard, cases: Iterable[str]) -> dict[str, str]:
    """What predictions of a shard have in their identity beside that of the whole, whose cases are those named."""
    return {"shard": str(shard), "cases_sha256": hash_of_names(cases)}


def hash_of_names(cases: Iterable[str]) -> str:
    """SHA-256 of a list of cases, in whatever order."""
    return hashlib.sha256(json.dumps(sorted(cases)).encode()).hexdigest()


def first_difference(own: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The first key in which two identities differ, with both values, shortened; None where they are equal."""
    for key in dict.fromkeys((*own, *other)):
        if own.get(key) != other.get(key):
            return key, str(own.get(key))[:_SHOWN], str(other.get(key))[:_SHOWN]
    return None
