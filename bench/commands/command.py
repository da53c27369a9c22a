"""A command as the user writes it: split into arguments as by a shell, its placeholders filled, run without a shell.

==========  ================================================  ===========================================
mode        is called                                         placeholders
==========  ================================================  ===========================================
``case``    anew for each case                                ``{image}``, or of several files ``{images}``
                                                              or ``{image0} {image1}``...; ``{mask}``
``server``  once; gets and gives a line of JSON a case        none
``folder``  once for all cases                                ``{images_dir}``, ``{masks_dir}``
==========  ================================================  ===========================================
"""

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from engines.base import Backend, Runtime
from reports.records.record import CASE, COMMAND_MODES, FOLDER, SERVER, CommandRecord

BACKEND = "command"  # in the place of a backend's name
ROW = Backend("", "its own", Runtime({}))
"""What stands for it where others have a row of the table of backends."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+\d*)\}")
_IMAGE = re.compile(r"image(\d+)?|images")
_OF_FOLDERS = ("images_dir", "masks_dir")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, ready to be called.

    Attributes:
        record: what the user wrote.
        environment: the user's own variables.
        timeout_s: seconds that a case may take.
        class_names: by which it may call the classes of cases, in their order.
    """

    record: CommandRecord
    environment: Mapping[str, str]
    timeout_s: float
    class_names: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """With their placeholders."""
        return shlex.split(self.record.line)


def read_command(where: str, line: str, mode: str | None = None, classes: str = "") -> CommandRecord:
    """A command to run in the current folder; without a `mode` its placeholders say which, `CASE` or `FOLDER`.

    Raises:
        InputError: it cannot be split, or its placeholders are not those of its mode; the line begins with `where`.
    """
    if mode is not None and mode not in COMMAND_MODES:
        raise InputError(f"{where}: mode {mode!r}: unknown; choose from {', '.join(COMMAND_MODES)}")
    try:
        arguments = shlex.split(line)
    except ValueError as error:
        raise InputError(f"{where}: {line!r} cannot be split into arguments ({error}); mend its quotes") from None
    if not arguments:
        raise InputError(f"{where}: is empty; name a program and its arguments")
    named = _placeholders(arguments)
    mode = mode or _mode_of(where, named)
    _check(where, mode, arguments, named)
    own = "masks_dir" if mode == FOLDER else "mask"
    if _placeholders([classes]) - {own}:
        raise InputError(f"{where}: classes = {classes!r}: of the placeholders only {{{own}}} may be in it")
    return CommandRecord(line=line, mode=mode, classes=classes, folder=str(Path.cwd()))


def _mode_of(where: str, named: set[str]) -> str:
    if "mask" in named:
        return CASE
    if "masks_dir" in named:
        return FOLDER
    raise InputError(
        f"{where}: names neither {{mask}} nor {{masks_dir}}, so that nobody knows where it writes; "
        'add {image} and {mask}, or say that it is a server (NAME:server=..., mode = "server")'
    )


def _check(where: str, mode: str, arguments: Sequence[str], named: set[str]) -> None:
    images = {name for name in named if _IMAGE.fullmatch(name)}
    known = {CASE: {"mask", *images}, FOLDER: set(_OF_FOLDERS), SERVER: set[str]()}[mode]
    needed = {
        CASE: "{image} and {mask}",
        FOLDER: "{images_dir} and {masks_dir}",
        SERVER: "none, as cases come by lines",
    }
    if unknown := sorted(named - known):
        raise InputError(f"{where}: {{{unknown[0]}}}: no placeholder of mode {mode}, which has {needed[mode]}")
    if (mode == CASE and not ("mask" in named and images)) or (mode == FOLDER and named != known):
        raise InputError(f"{where}: mode {mode} needs {needed[mode]}; add them")
    if any("{images}" in argument and argument != "{images}" for argument in arguments):
        raise InputError(f"{where}: {{images}} becomes an argument for each channel; put spaces around it")


def refuse_channels(where: str, record: CommandRecord, files: int) -> None:
    """Refuse a command that names fewer or other image files than the `files` of a case.

    Raises:
        InputError: so it does.
    """
    named = _placeholders(shlex.split(record.line))
    if "image" in named and files != 1:
        raise InputError(
            f"{where}: {{image}}: a case has {files} files; write {{images}}, or {{image0}} to {{image{files - 1}}}"
        )
    for name in sorted(named):
        match = _IMAGE.fullmatch(name)
        if match and match[1] and int(match[1]) >= files:
            raise InputError(f"{where}: {{{name}}}: a case has {files} file{'s' * (files != 1)}, counted from 0")


def refuse_missing(where: str, record: CommandRecord, environment: Mapping[str, str]) -> None:
    """Refuse a command whose program is not there.

    Raises:
        InputError: so it is.
    """
    program = shlex.split(record.line)[0]
    path = str(Path(record.folder) / program) if "/" in program else program
    if shutil.which(path, path=environment.get("PATH")) is None:
        raise InputError(f"{where}: {program}: no such program, or it may not be run; correct its name or its path")


def named_files(record: CommandRecord) -> dict[str, str]:
    """SHA-256 of each file that the line names, also behind ``--option=``; empty of one that may not be read."""
    from bench.data.cases import sha256_of  # which imports nibabel; a worker that runs commands needs none

    def is_file(path: Path) -> bool:
        try:
            return path.is_file()
        except OSError:  # as of a script behind -c, which is longer than a name may be
            return False

    def hashed(path: Path) -> str:
        try:
            return sha256_of(path)
        except InputError:  # a program may be one that its users can run alone
            return ""

    words = dict.fromkeys(name for word in shlex.split(record.line) for name in (word, word.partition("=")[2]) if name)
    paths = {name: Path(record.folder) / name for name in words}
    return {name: hashed(path) for name, path in paths.items() if is_file(path)}


def refuse_changed(where: str, record: CommandRecord) -> None:
    """Refuse a command one of whose files is not what its run began with.

    A file that has come since is most likely its own, as a log. Runs of older versions do not say what the files were.

    Raises:
        InputError: so it is.
    """
    before = record.files or {}
    now = named_files(record) if before else {}
    for name, content in before.items():
        if now.get(name) != content:
            raise InputError(f"{where}: {name}: is not what this run began with; put it back, or start a new run")


def filled(arguments: Sequence[str], images: Sequence[Path], mask: Path) -> list[str]:
    """The arguments of a call for a case."""
    values = {"image": str(images[0]), "mask": str(mask)} | {f"image{n}": str(path) for n, path in enumerate(images)}
    groups = (list(map(str, images)) if each == "{images}" else [with_values(each, values)] for each in arguments)
    return [argument for group in groups for argument in group]


def with_values(text: str, values: Mapping[str, str]) -> str:
    """`text` with its placeholders filled; those without a value stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def _placeholders(arguments: Sequence[str]) -> set[str]:
    return {name for argument in arguments for name in _PLACEHOLDER.findall(argument)}
