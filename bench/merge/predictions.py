"""Shards of `bench predict`: their masks and lines in one folder, with which a call over all cases goes on."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from bench.merge.shards import Part, refuse_foreign, whole
from bench.package.export import refuse_place, unfinished
from bench.predict.header import Header, ShardHeader, first_difference, hash_of_names
from bench.predict.journal import NAME, read_lines
from bench.predict.tables import write_tables
from bench.progress import Progress
from bench.schedule.run_directory import locked
from bench.shard import Shard
from bench.worker.lines import OK, Line

_OF_SHARD = ("shard", "cases_sha256")  # of an identity; of the whole there are none


@dataclass(frozen=True)
class Content:
    """What a shard's journal says: its first line, and the last of each case."""

    header: Header
    shard: ShardHeader
    lines: dict[str, Line]


@dataclass(frozen=True)
class Merged:
    """What became of the cases, a line for each."""

    folder: Path
    shards: int
    lines: tuple[Line, ...]

    @property
    def failed(self) -> list[Line]:
        return [line for line in self.lines if line.status != OK]


def merge_predictions(folders: Sequence[Path], out: Path, progress: Progress) -> Merged:
    """Join the shards in `folders`. Cases that failed go along as such.

    Raises:
        InputError: they are no whole set of finished shards, or `out` cannot be written to; nothing was written.
    """
    refuse_place(out)
    with ExitStack() as held:
        for folder in dict.fromkeys(map(Path.resolve, folders)):
            held.enter_context(locked(folder, "another process predicts into this folder; wait until it ends"))
        parts = _checked([_read(folder) for folder in folders])
        lines = sorted((line for part in parts for line in part.content.lines.values()), key=lambda line: line.case)
        header = parts[0].content.header
        identity = {key: value for key, value in header.identity.items() if key not in _OF_SHARD}
        with unfinished(out) as work:
            progress.start("copying masks", sum(line.status == OK for line in lines))
            for part in parts:
                _copy(part, work, progress)
            first = Header(identity, header.classes, None).text.encode()
            (work / NAME).write_bytes(b"".join((first, *(line.encoded() for line in lines))))
            write_tables(work, lines, header.classes)
    return Merged(out, len(parts), tuple(lines))


def _read(folder: Path) -> Part[Content]:
    path = folder / NAME
    header = Header.read(path, "name the folders of shards that `bench predict --shard I/N` wrote")
    own = header.shard
    if own is None:
        raise InputError(
            f"{folder}: predictions of all cases, and no shard; name folders of `bench predict --shard I/N`"
        )
    return Part(folder, Shard(own.number, own.count), Content(header, own, read_lines(path)))


def _checked(parts: Sequence[Part[Content]]) -> list[Part[Content]]:
    first = parts[0]
    for part in parts[1:]:
        identities = [{**each.content.header.identity, "shard": ""} for each in (part, first)]
        difference = first_difference(*identities)
        if difference is not None and part.shard.count == first.shard.count:
            what, own, other = difference
            refuse_foreign(part, first, "the list of cases" if what == "cases_sha256" else what, own, other)
    ordered = whole(parts)
    names = [name for part in ordered for name in part.content.shard.cases]
    if hash_of_names(names) != first.content.header.identity.get("cases_sha256"):
        raise InputError(f"{first.folder}: the first lines of the shards do not give its list of cases; predict again")
    for part in ordered:
        _refuse_unfinished(part)
    return ordered


def _refuse_unfinished(part: Part[Content]) -> None:
    lines, own = part.content.lines, part.content.shard
    missing = [name for name in own.cases if name not in lines or not _is_there(part.folder, lines[name])]
    if missing:
        raise InputError(
            f"{part.folder}: shard {part.shard} is not finished, {len(missing)} of its {len(own.cases)} cases are "
            f"missing; to go on: {own.command}"
        )
    foreign = lines.keys() - set(own.cases)
    if foreign:
        raise InputError(
            f"{part.folder}: holds {min(foreign)}, which is no case of shard {part.shard}; predict it again"
        )


def _is_there(folder: Path, line: Line) -> bool:
    """Whether it failed or has its mask; the name of one leads to no other folder."""
    return line.status != OK or (
        line.mask is not None and Path(line.mask).name == line.mask and (folder / line.mask).is_file()
    )


def _copy(part: Part[Content], work: Path, progress: Progress) -> None:
    for name, line in _masks(part):
        shutil.copyfile(part.folder / name, work / name)
        with (work / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != line.mask_sha256:
            raise InputError(
                f"{part.folder / name}: not the mask that was predicted, its sha256 is {digest[:12]} and not "
                f"{str(line.mask_sha256)[:12]}; remove it, and predict it again: {part.content.shard.command}"
            )
        progress.advance(line.case)


def _masks(part: Part[Content]) -> Iterator[tuple[str, Line]]:
    """Those on disk, by their names."""
    for line in part.content.lines.values():
        if line.status == OK and line.mask is not None:
            yield line.mask, line
