"""The field's words in the code: docs/glossary.md defines the few that are ours, and these are not among them."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    str(path.relative_to(ROOT))
    for package in ("bench", "engines", "models", "reports", "scripts")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "migrate_results.py"  # reads records in the words of schema 1
)
NAMES = re.compile(
    r"_*(found|one|told|given|Passes|Take|Stitcher|Given|Look|untold|unfit|unwritable)"
    r"|.*(?<![a-z])(told|arms?|duels?|stitcher|doubts|ambient|disturbance|surroundings|parity|stand_ins|disassembly"
    r"|contradiction)(?![a-z]).*",
)
PROSE = re.compile(r"\b(duels?|told|tells? of|doubts|ambient|disturbances?|surroundings|stand-ins?|parity)\b")


@pytest.mark.parametrize("file", FILES)
def test_the_code_speaks_the_words_of_the_field(file):
    tokens = tokenize.generate_tokens(io.StringIO((ROOT / file).read_text()).readline)
    private = [
        (token.start[0], token.string.strip()[:80])
        for token in tokens
        if (token.type == tokenize.NAME and NAMES.fullmatch(token.string))
        or (token.type in (tokenize.STRING, tokenize.COMMENT) and PROSE.search(token.string))
    ]
    assert not private
