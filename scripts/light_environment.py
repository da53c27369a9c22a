"""Follow the Dockerfile without Docker: what it copies and runs is copied and run below a folder, by this Python.

    python scripts/light_environment.py FOLDER                                what `docker build .` would install
    python scripts/light_environment.py FOLDER --build-arg EXTRAS=cpu
    python scripts/light_environment.py FOLDER --build-arg PIP_EXTRA_INDEX_URL=URL    where PyTorch for CPUs is

What the image has at /opt lies at FOLDER/opt. Left out is what takes a container: base images, users, volumes. Needs
the package dockerfile-parse.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser
from dockerfile_parse.util import extract_key_values

ROOT = Path(__file__).resolve().parents[1]
_PLACES = re.compile(
    r"(?<![\w./:-])/(?=(?:opt|src|cache)\b)"
)  # in the image; all else that a line names is the system's


class FollowError(Exception):
    """The Dockerfile has a line that cannot be followed, or that fails. The message is one line."""


@dataclass
class Image:
    """What a stage has become.

    Attributes:
        root: the folder that stands for the image's root.
        variables: those that its own ENV lines set.
        arguments: of the build, as its ARG lines declare them.
        copied: the places that its COPY lines have filled, in the image's own words.
        settings: the text of its last USER, ENTRYPOINT and so on.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def place(self, text: str) -> str:
        """`text` with the places in the image as they are called on this machine."""
        return _PLACES.sub(f"{self.root}/", text)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process in the image, its places as they are called on this machine."""
        return {name: self.place(value) for name, value in self.variables.items()}

    @property
    def entrypoint(self) -> list[str]:
        """The program that a container runs, found as the container would find it, and its arguments."""
        name, *arguments = json.loads(self.settings["ENTRYPOINT"])
        program = shutil.which(name, path=self.environment["PATH"])
        if program is None or not Path(program).is_relative_to(self.root):
            raise FollowError(f"ENTRYPOINT {name}: {program or 'nothing'} is what the image's PATH leads to")
        return [program, *arguments]


def main() -> int:
    """Make the environment, and say how long it took and how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made, and must not be there")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as docker build has it")
    options = parser.parse_args()
    arguments = dict(text.split("=", 1) for text in options.build_arg if "=" in text)
    if len(arguments) < len(options.build_arg):
        parser.error("--build-arg: give NAME=VALUE")
    begun = time.monotonic()
    try:
        options.folder.mkdir(parents=True)
        image = follow(ROOT / "Dockerfile", options.folder.resolve(), arguments, {})
        program = image.entrypoint
    except (FollowError, OSError) as error:
        parser.exit(1, f"{error}\n")
    size = sum(file.lstat().st_size for file in image.root.rglob("*") if not file.is_dir())
    variables = [f"{name}={value}" for name, value in image.environment.items() if name != "PATH"]
    print(f"{time.monotonic() - begun:.0f} s, {size / 2**20:.0f} MiB: {' '.join([*variables, *program])}")
    return 0


def follow(dockerfile: Path, root: Path, arguments: Mapping[str, str], environment: Mapping[str, str]) -> Image:
    """Carry out the stages of `dockerfile` below `root`, with the build's `arguments`; give the last stage.

    RUN lines get the variables of this process and of `environment`. What the last stage has not copied is deleted.

    Raises:
        FollowError: a line fails, or does what is not done here.
    """
    image, stages = Image(root), dict[str, Image]()
    for name, text in instructions(dockerfile):
        if name == "FROM":
            image = Image(root)
            stages[text.partition(" AS ")[2]] = image
        elif name == "ARG":
            ((argument, default),) = extract_key_values(False, {}, {}, text)
            image.arguments[argument] = arguments.get(argument, default)
        elif name == "ENV":
            known = {"PATH": os.environ["PATH"], **image.variables}
            image.variables |= dict(extract_key_values(True, image.arguments, known, text))
        elif name == "WORKDIR":
            image.folder = text
        elif name == "COPY":
            _copy(image, text.split(), dockerfile.parent, stages)
        elif name == "RUN":
            _run(image, text, environment)
        elif name in ("LABEL", "VOLUME", "USER", "ENTRYPOINT", "CMD"):
            image.settings[name] = text
        else:
            raise FollowError(f"{dockerfile.name}: {name} is not followed here")
    for entry in root.iterdir():
        if not any(place.startswith(f"/{entry.name}") for place in image.copied):
            shutil.rmtree(entry)
    return image


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """The name of each instruction and what follows it, its lines joined."""
    for line in DockerfileParser(str(dockerfile)).structure:
        if line["instruction"] != "COMMENT":
            yield line["instruction"], line["value"].strip()


def _copy(image: Image, words: list[str], context: Path, stages: Mapping[str, Image]) -> None:
    """Copy from the `context`, into the stage's folder; what another stage has lies where it must already."""
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    if "from" in options:
        if options["from"] not in stages or sources != [target] or not Path(image.place(target)).exists():
            raise FollowError(f"COPY {' '.join(words)}: only a place that the other stage has, to the same place")
        image.copied.append(target)
        return
    folder = Path(image.place(image.folder)) / target
    for source in sources:
        if (context / source).is_dir():
            shutil.copytree(context / source, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / source, folder)


def _run(image: Image, text: str, environment: Mapping[str, str]) -> None:
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # `python` and `pip` of the base image
    variables = {**os.environ, "PATH": path, **image.environment, **image.arguments, **environment}
    folder = Path(image.place(image.folder)) if image.folder != "/" else image.root
    command = ["/bin/sh", "-c", image.place(text)]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise FollowError(f"RUN {text}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
