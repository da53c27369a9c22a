"""The expressions of MONAI's model zoo: their values are those of MONAI's own parser, and nothing else is computed."""

from typing import Any

import pytest
from monai.bundle import ConfigParser

from models.monai.expressions import Unsupported, compute, painted

VALUES: dict[str, Any] = {
    "root": "/bundle", "size": [96, 64, 32], "count": 4, "high": False, "names": {"spleen": 1, "background": 0},
    "nested": {"overlap": 0.25, "list": [1, 2]}, "a": [{"x": 1}], "b": ["y"],
}  # fmt: skip
ZOO = (
    "@root + '/models'", "@root+'/data/test.json'", "len(@size)", "len(@names) + @count", "@size[0]//4",
    "[@size[0], @size[1], 1]", "[1.5, 1.5, 1.5] if @high else [3.0, 3.0, 3.0]", "'model.pt' if @high else 'low.pt'",
    "list(range(33, 57)) + list(range(63, 98)) + [114, 120, 122]", "not @high", "-@count * 2 / 8", "@nested#overlap",
    "@nested::list[1] - 1", "@a + @b", "@a", "@names['spleen']", "[0] * 3",
    "monai.utils.CommonKeys.IMAGE", "None", "(1, 2)[0]",
)  # fmt: skip


def at(key: str) -> Any:
    value: Any = VALUES
    for part in key.split("::"):
        value = value[part]
    return value


@pytest.mark.parametrize("text", ZOO)
def test_values_are_those_of_monais_parser(text: str) -> None:
    parser = ConfigParser({**VALUES, "asked": f"${text}"})
    assert compute(text, at) == parser.get_parsed_content("asked")


@pytest.mark.parametrize(
    ("text", "name"), [("torch.float32", "float32"), ("numpy.float32", "float32"), ("np.uint8", "uint8")]
)
def test_types_are_names(text: str, name: str) -> None:
    assert compute(text, at) == name


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch MARKER')", "open('/etc/passwd').read()", "@root.upper()", "@root.__class__",
        "().__class__.__base__.__subclasses__()", "[i for i in range(3)]", "lambda x: x", "2**9", "2**9**9", "'a' * 9",
        "[0] * 10**6", "[0] * 2001", "list(range(10**9))", "range(10, 2, 0)", "10**400", "1e9 * 1e9", "1/0",
        "@size[9]", "@root[0]", "len(3)", "len(*@size)", "list(@root)", "list()", "eval('1')", "f'{@root}'", "x",
        "@size['x']", "@root +",
        "(" * 300 + ")" * 300, "-" * 900 + "1", "1 +" * 400 + "1", "@root := 3", "b'x'", "...",
        "torch.load(@root)", "os.environ", "@size @ @size", "@count and @count", "{'image': 1}", "1 + '1'", "[1] + 1",
        "@names + @names", "'" + "x" * 1001 + "'", "\0",
    ],
)  # fmt: skip
def test_anything_else_is_unsupported(text: str) -> None:
    with pytest.raises(Unsupported):
        compute(text, at)


WHERE = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"


@pytest.mark.parametrize(
    ("text", "painting"),
    [
        (WHERE, ((1, 2), (0, 1), (2, 4))),
        ("$lambda y : torch.where(y[[0]] > 0.0, 1, 0)", ((0, 1),)),
        ("$lambda x: torch.where(x[[0]] > 0, 1, 3)", None),
        ("$lambda x: torch.where(x[[0]] > 1, 1, 0)", None),
        ("$lambda x: torch.where(x[[0]] < 0, 1, 0)", None),
        ("$lambda x: torch.where(y[[0]] > 0, 1, 0)", None),
        ("$lambda x: torch.where(x[[0]] > 0, os.system('touch MARKER'), 0)", None),
        ("$lambda x: torch.where(x[[0]] > 0, 1, os.system('touch MARKER'))", None),
        ("$lambda x, y=os.system('touch MARKER'): torch.where(x[[0]] > 0, 1, 0)", None),
        ("$lambda x: os.where(x[[0]] > 0, 1, 0)", None),
        ("$lambda x: torch.where(x[[0]] > 0, True, 0)", None),
        ("$lambda x: torch.where(x[[0]] > 0, 1, 0, out=x)", None),
        ("$lambda x: x[1:]", None),
        ("$lambda x: 0", None),
        ("$torch.where", None),
        ("$(", None),
    ],
)  # fmt: skip
def test_only_one_function_is_read_as_painting(text: str, painting: Any) -> None:
    assert painted(text) == painting
