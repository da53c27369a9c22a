"""The script that follows a Dockerfile; tests/test_container.py follows ours."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts/light_environment.py"))
STAGES = """
FROM base AS build
ARG WORD=default
ENV FOLDER=/opt/made
WORKDIR /src
COPY text folder ./
# A comment between lines.
RUN mkdir -p "$FOLDER" && \\
    cp text "$FOLDER" && echo "$WORD" > /opt/made/word
FROM base
COPY --from=build /opt/made /opt/made
ENV PATH=/opt/made:$PATH
ENTRYPOINT ["tool", "--quiet"]
"""


def follow(folder: Path, text: str, **arguments: str) -> Any:
    (folder / "Dockerfile").write_text(text)
    (folder / "root").mkdir()
    return SCRIPT["follow"](folder / "Dockerfile", folder / "root", arguments, {})


def test_stages_are_carried_out_and_only_the_last_one_stays(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the text")
    (tmp_path / "folder").mkdir()
    image = follow(tmp_path, STAGES, WORD="mine")
    made = tmp_path / "root" / "opt" / "made"
    assert (made / "text").read_text() == "the text"
    assert (made / "word").read_text() == "mine\n"
    assert [entry.name for entry in (tmp_path / "root").iterdir()] == ["opt"]
    assert image.environment["PATH"].startswith(f"{made}:")
    with pytest.raises(SCRIPT["FollowError"], match="ENTRYPOINT tool: nothing is what"):
        _ = image.entrypoint
    (made / "tool").touch(0o755)
    assert image.entrypoint == [str(made / "tool"), "--quiet"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN echo why >&2; exit 3", r"RUN echo why .*: exit code 3: why"),
        ("HEALTHCHECK NONE", "Dockerfile: HEALTHCHECK is not followed here"),
        ("COPY --from=other /opt /opt", "COPY .*: only a place that the other stage has, to the same place"),
        ("COPY nothing ./", "nothing"),
    ],
)
def test_what_cannot_be_followed_ends_it(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises((SCRIPT["FollowError"], OSError), match=said):
        follow(tmp_path, f"FROM base\n{line}\n")
