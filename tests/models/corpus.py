"""Hostile and broken files: what each is, its bytes, and words of the refusal that it must get.

The programs in `CODE` run if the standard library's `pickle.loads` reads them: each then makes a file named MARKER.
"""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import torch

READ = "recorded metrics"  # said of a file that is read after all
EVIL = """
class New:
    def __new__(cls, *arguments, **keywords):
        open("MARKER", "w").close()
        return object.__new__(cls)

class Set:
    def __setstate__(self, state):
        open("MARKER", "w").close()

class Slot:
    def __setattr__(self, name, value):
        open("MARKER", "w").close()

def run(*arguments):
    open("MARKER", "w").close()

run_127 = run_4660 = run_1193046 = run
"""
EVIL_IMPORT = 'open("MARKER", "w").close()\nthing = 1\n'
REGISTER = """
import copyreg
for code in (127, 4660, 1193046):
    copyreg.add_extension("evil", f"run_{code}", code)
"""


@dataclass(frozen=True)
class Case:
    """A file's bytes, and what its refusal says: all of `said`, nothing in particular (), or READ."""

    make: Callable[[], bytes]
    said: tuple[str, ...] = ()
    suffix: str = ".pth"


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def zipped(pickled: bytes, records: dict[str, bytes] | None = None, **options: Any) -> bytes:
    """The archive that torch.save would write around a pickle and the bytes of its tensors."""
    inner = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    inner |= {f"data/{key}": data for key, data in (records or {}).items()}
    return archive({f"archive/{name}": data for name, data in inner.items()}, **options)


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return stream.getvalue()


def legacy(pickled: bytes, keys: bytes = b"\x80\x02].", rest: bytes = b"", system: bytes | None = None) -> bytes:
    """What torch.save wrote before 1.6: pickles of a magic number, a version, the system, the object and the keys."""
    system = system or pickle.dumps({"little_endian": True}, protocol=2)
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001)]
    return b"".join([*head, system, pickled, keys, rest])


def tensor(
    size: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1), offset: int = 0, count: int = 4,
    key: bytes = b"0", kind: bytes = b"torch\nFloatStorage", last: bytes = b"",
) -> bytes:  # fmt: skip
    """Instructions that make a tensor of 32-bit floats, as torch.save writes them."""
    storage = b"(" + text(b"storage") + b"c" + kind + b"\n" + text(key) + text(b"cpu") + number(count) + last + b"tQ"
    shape = number(offset) + b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + shape + b"\x89ccollections\nOrderedDict\n)RtR"


def holding(value: bytes, key: bytes = text(b"weight")) -> bytes:
    return b"\x80\x02}" + key + value + b"s."


def weights(**changed: Any) -> bytes:
    """A checkpoint of one 2x2 tensor, with something `changed` about it."""
    return zipped(holding(tensor(**changed)), {"0": bytes(16)})


def saved(held: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(held, stream, **options)
    return stream.getvalue()


def plain_checkpoint() -> bytes:
    return saved({"epoch": 3, "state_dict": {"a.weight": torch.ones(4, 4), "a.bias": torch.zeros(4)}, "loss": 0.5})


def call(name: bytes, *arguments: bytes) -> bytes:
    return b"\x80\x02c" + name + b"\n(" + b"".join(arguments) + b"tR."


TOUCH, WRITE = text(b"touch MARKER"), text(b"open('MARKER', 'w')")
POSIX = text(b"posix") + text(b"system") + b"\x93"
CODE: dict[str, tuple[bytes, str]] = {
    "REDUCE": (call(b"posix\nsystem", TOUCH), "posix.system"),
    "REDUCE through os": (call(b"os\nsystem", TOUCH), "os.system"),
    "REDUCE in protocol 0": (b"cposix\nsystem\n(S'touch MARKER'\ntR.", "posix.system"),
    "GLOBAL that imports": (b"\x80\x02cevil_import\nthing\n.", "evil_import.thing"),
    "INST": (b"(" + TOUCH + b"iposix\nsystem\n.", "posix.system"),
    "STACK_GLOBAL": (b"\x80\x04" + POSIX + TOUCH + b"\x85R.", "posix.system"),
    "STACK_GLOBAL through a dotted name": (
        b"\x80\x04" + text(b"torch") + text(b"serialization.os.system") + b"\x93" + TOUCH + b"\x85R.",
        "torch.serialization.os.system",
    ),
    "OBJ": (b"\x80\x02(cposix\nsystem\n" + TOUCH + b"o.", "posix.system"),
    "NEWOBJ": (b"\x80\x02cevil\nNew\n)\x81.", "evil.New"),
    "NEWOBJ_EX": (b"\x80\x04cevil\nNew\n)}\x92.", "evil.New"),
    "BUILD by __setstate__": (b"\x80\x02cevil\nSet\n)\x81K\x01b.", "evil.Set"),
    "BUILD by attributes": (b"\x80\x02cevil\nSlot\n)\x81N}" + text(b"a") + b"K\x01s\x86b.", "evil.Slot"),
    "EXT1": (b"\x80\x02\x82\x7f)R.", "extension 127"),
    "EXT2": (b"\x80\x02\x83\x34\x12)R.", "extension 4660"),
    "EXT4": (b"\x80\x02\x84\x56\x34\x12\x00)R.", "extension 1193046"),
    "eval": (call(b"builtins\neval", WRITE), "builtins.eval"),
    "exec": (call(b"builtins\nexec", WRITE), "builtins.exec"),
    "eval of Python 2": (call(b"__builtin__\neval", WRITE), "builtins.eval"),
    "getattr": (
        b"\x80\x02cbuiltins\ngetattr\n(cos\n_wrap_close\n" + text(b"__init__") + b"tR0" + call(b"evil\nrun")[2:],
        "builtins.getattr",
    ),
    "import_module": (call(b"importlib\nimport_module", text(b"evil_import")), "importlib.import_module"),
    "__import__": (call(b"builtins\n__import__", text(b"evil_import")), "builtins.__import__"),
    "runpy": (call(b"runpy\nrun_module", text(b"evil_import")), "runpy.run_module"),
    "Popen": (call(b"subprocess\ncall", b"]", text(b"touch"), b"a", text(b"MARKER"), b"a"), "subprocess.call"),
    "a pickle in a pickle": (
        b"\x80\x04cpickle\nloads\n" + b"C" + bytes([len(call(b"evil\nrun"))]) + call(b"evil\nrun") + b"\x85R.",
        "pickle.loads",
    ),
    "functools.partial": (b"\x80\x02cfunctools\npartial\n(cevil\nrun\ntR)R.", "functools.partial"),
    "as a dict's key": (b"\x80\x02}" + call(b"evil\nrun")[2:-1] + b"K\x01s.", "evil.run"),
    "after what is allowed": (b"\x80\x02ccollections\nOrderedDict\n)R0" + call(b"evil\nrun")[2:], "evil.run"),
}
_DEEP = 100_000
BOMB = b"K\x01\x85" + b"q\x00h\x00\x86" * 100  # a tuple of 2^100 values: hash() and str() of it never end


def again(value: bytes, name: bytes, arguments: bytes) -> Any:
    """A pickle that keeps `value` and has a thousand objects made of it; `arguments` make a tuple of it."""
    calls = b"".join([b"h\x02h\x01", arguments, b"R"]) * 1000
    pickled = b"\x80\x02](" + value + b"q\x01c" + name + b"\nq\x02" + calls + b"e."
    return pickled, ("objects of the same long values",)


def code() -> Iterator[tuple[str, Case]]:
    for name, (pickled, wanted) in CODE.items():
        yield f"code by {name}", Case(lambda p=pickled: zipped(p), (wanted, "where you trust its source"))  # type: ignore[misc]
        yield f"code by {name}, legacy", Case(lambda p=pickled: legacy(p), (wanted,))  # type: ignore[misc]
    run = call(b"evil\nrun")
    yield "code in a legacy file's system", Case(lambda: legacy(b"\x80\x02}.", system=run), ("evil.run",))
    yield "code in a legacy file's keys", Case(lambda: legacy(b"\x80\x02}.", keys=run), ("evil.run",))
    yield "code in a bare pickle", Case(lambda: run, ("a pickle that torch.save did not write", "evil.run"))
    beside = b"\x80\x02}" + text(b"loss") + b"cevil\nrun\n)Rs" + holding(tensor())[3:]
    yield "code beside weights", Case(lambda: zipped(beside, {"0": bytes(16)}), ("evil.run",))
    module = torch.nn.Linear(2, 2)
    yield "a whole module", Case(lambda: saved(module), ("torch.nn.modules.linear.Linear", "network.state_dict()"))
    by_name = {
        "torch.load": b"torch.serialization\nload",
        "torch.hub": b"torch.hub\nload",
        "torch.jit": b"torch.jit\nload",
        "numpy.load": b"numpy\nload",
        "numpy's view of bytes": b"numpy._core.numeric\n_frombuffer",
        "bytearray": b"__builtin__\nbytearray",
        "torch's tensor class": b"torch\nFloatTensor",
        "a tensor of a subclass": b"torch._utils\n_rebuild_wrapper_subclass",
    }
    for name, spelt in by_name.items():
        wanted = spelt.decode().replace("\n", ".").replace("__builtin__", "builtins")
        yield f"a call of {name}", Case(lambda s=spelt: zipped(call(s, number(2**62))), (wanted,))  # type: ignore[misc]
    yield "persistent id as text", Case(lambda: zipped(b"\x80\x02Pposix.system\n."), ("PERSID",))
    made = b"ctorch._tensor\n_rebuild_from_type_v2\n(cevil\nrun\n)N)tR"
    yield "a tensor made by a function", Case(lambda: zipped(holding(made)), ("evil.run",))


def pickles() -> Iterator[tuple[str, Case]]:
    """Pickles that are broken, huge, or deep."""
    laughs = b"\x80\x02}X\x01\x00\x00\x00a" + b"(" * 30 + b"K\x01" + (b"q\x00" + b"h\x00" * 9 + b"t") * 30
    collide = b"\x80\x02}(" + b"".join(number(n * (2**61 - 1)) + b"N" for n in range(1, 30_000)) + b"u."
    cases: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "bytes behind its end": (holding(tensor()) + b"cevil\nrun\n)R.", ("behind the end of its pickle",)),
        "two pickles": (b"\x80\x02}." + holding(tensor()), ("behind the end of its pickle",)),
        "no end": (b"\x80\x02}", ("damaged",)),
        "nothing at all": (b"", ("damaged",)),
        "values left over": (b"\x80\x02}}.", ("values left over",)),
        "an empty stack": (b"\x80\x02s.", ("values that are not there",)),
        "an empty stack behind a mark": (b"\x80\x02}(N\x86.", ("values that are not there",)),
        "no mark": (b"\x80\x02t.", ("damaged",)),
        "an unknown memo": (b"\x80\x02h\x05.", ("damaged",)),
        "a memo of 2^31": (b"\x80\x02}r\xff\xff\xff\x7f.", ("numbers a value 2147483647",)),
        "a million instructions": (b"\x80\x02](" + b"N" * 1_100_000 + b"e.", ("more than 1000000 instructions",)),
        "a text encoded a thousand times": again(text(b"x" * 10**6), b"_codecs\nencode", text(b"latin1") + b"\x86"),
        "a dict copied a thousand times": again(
            b"}(" + b"".join(number(i) + b"N" for i in range(20_000)) + b"u", b"collections\nOrderedDict", b"\x85"
        ),
        "a list copied a thousand times": again(b"](" + b"N" * 10**5 + b"e", b"torch\nSize", b"\x85"),
        "15,000 arguments, a thousand times": again(b"(" + b"N" * 15_000 + b"t", b"torch\ndevice", b""),
        "paths of 15,000 parts": again(b"(" + text(b"x") * 15_000 + b"t", b"pathlib\nPosixPath", b""),
        "17 MiB": (holding(text(bytes(17 * 2**20))), ("where 16777216 are read",)),
        "a string of 4 GiB": (b"\x80\x02X\xff\xff\xff\xffabc.", ("damaged",)),
        "bytes of 2^62": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", ("damaged",)),
        "a bytearray of 2^62": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".", ("damaged",)),
        "a frame of 2^62": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.", ("FRAME",)),
        "an integer of 2 GiB": (b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", ("damaged",)),
        "an integer of a million digits": (b"I" + b"9" * 10**6 + b"\n.", ("damaged",)),
        "a long of a million digits": (b"L" + b"9" * 10**6 + b"L\n.", ("damaged",)),
        "a giant integer as key": (b"\x80\x02}" + number(2**2000) + tensor() + b"s.", ("giant integer",)),
        "keys of one hash": (collide, ("giant integer",)),
        "tuples as key, 2^100 of them": (b"\x80\x02}" + BOMB + b"K\x01s.", ("tuple for a dict's key",)),
        "tuples in a set": (b"\x80\x02c__builtin__\nset\n(]" + BOMB + b"atR.", ("nested more than 64",)),
        "tuples as key of an OrderedDict": (
            b"\x80\x02ccollections\nOrderedDict\n(]]" + BOMB + b"aK\x01aatR.",
            ("keys other than strings",),
        ),
        "10^30 values, each in ten places": (laughs + b"s.", ("more than 1000000 values",)),
        "a list in itself": (b"\x80\x02}X\x01\x00\x00\x00a]q\x00h\x00as.", ("nested more than 64 deep",)),
        "a dict in itself": (b"\x80\x02}q\x00" + text(b"model") + b"h\x00s.", ("nested more than 64 deep",)),
        "tuples, 100,000 deep": (b"\x80\x02)" + b"\x85" * _DEEP + b".", ("nested more than 64 deep",)),
        "lists, 100,000 deep": (b"\x80\x02" + b"]" * _DEEP + b"a" * (_DEEP - 1) + b".", ("nested more than 64 deep",)),
        "marks, 100,000 deep": (b"\x80\x02" + b"(" * _DEEP + b"t" * _DEEP + b".", ("nested more than 64 deep",)),
        "a name of a million letters": (holding(tensor(), text(b"w" * 10**6)), ("long text for a dict's key",)),
        "no pairs": (b"\x80\x02}(" + text(b"a") + text(b"b") + text(b"c") + b"u.", ("damaged",)),
        "append to a dict": (b"\x80\x02}Na.", ("dict for APPEND",)),
        "items of a list": (b"\x80\x02]" + text(b"a") + b"Ns.", ("list for SETITEM",)),
        "BUILD of a constructor": (b"\x80\x02ccollections\nOrderedDict\nN}\x86b.", ("for BUILD",)),
        "REDUCE of a result": (b"\x80\x02ccollections\nOrderedDict\n)R)R.", ("REDUCE on something other than a name",)),
        "NEWOBJ of a function": (b"\x80\x02ctorch\nSize\n)\x81.", ("for NEWOBJ",)),
        "REDUCE with a list": (b"\x80\x02ccollections\nOrderedDict\n]R.", ("list for REDUCE",)),
        "REDUCE of a type of numbers": (b"\x80\x02ctorch\nfloat32\n)R.", ("damaged",)),
        "an unknown persistent id": (b"\x80\x02" + text(b"module") + b"K\x01\x86Q.", ("no tensor's storage",)),
        "numpy's object type": (
            call(b"numpy._core.multiarray\nscalar", call(b"numpy\ndtype", text(b"O8"))[2:-1], text(b"12345678")),
            ("a numpy value of type O8, where only plain numbers are read",),
        ),
        "numpy's nested type": (call(b"numpy\ndtype", text(b"(9,9)f8")), ("where only plain numbers are read",)),
        "numpy's type of a list": (call(b"numpy\ndtype", b"]"), ("damaged",)),
        "numpy's type, half built": (b"\x80\x02cnumpy\ndtype\n(" + text(b"f8") + b"tRN\x85b.", ("damaged",)),
        "a numpy number too short": (
            b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text(b"f8") + b"\x85RU\x041234\x86R.",
            ("damaged",),
        ),
        "tuples in a device": (call(b"torch\ndevice", BOMB), ("holds a str",)),
        "tuples as numpy's type": (call(b"numpy\ndtype", BOMB), ("where only plain numbers are read",)),
        "tuples as a persistent id": (b"\x80\x02" + BOMB + b"Q.", ("no tensor's storage",)),
        "tuples for a storage's key": (b"\x80\x02" + text(b"storage") + BOMB + b"\x86Q.", ("no tensor's storage",)),
        "tuples for a codec": (call(b"_codecs\nencode", text(b"x"), BOMB), ("encoding",)),
        "tuples for a size": (call(b"torch._utils\n_rebuild_tensor", b"NK\x00", BOMB, BOMB), ("a tensor of size",)),
        "another codec": (call(b"_codecs\nencode", text(b"x"), text(b"zip")), ("encoding",)),
    }  # fmt: skip
    for name, (pickled, said) in cases.items():
        records = {"0": bytes(16)}
        yield f"a pickle with {name}", Case(lambda p=pickled, r=records: zipped(p, r), said)  # type: ignore[misc]
    hidden = b"ccollections\nOrderedDict\n)R" + text(b"weight") + tensor() + b"s}" + text(b"items") + b"K\x01sb"
    for name, pickled in {
        "names of control characters": holding(tensor(), text(b"\x1b[2J\x07\r\nenc")),
        "names of lone surrogates": holding(tensor(), text(b"\xed\xa0\x80")),
        "names that turn the text around": holding(tensor(), text("\u202eenc".encode())),
        "a value of a million letters": b"\x80\x02}"
        + text(b"note")
        + text(b"w" * 10**6)
        + b"s"
        + holding(tensor())[3:],
        "attributes that hide methods": b"\x80\x02" + hidden + b".",
        "a giant integer as value": b"\x80\x02}" + text(b"step") + number(2**2000) + b"s" + holding(tensor())[3:],
    }.items():
        yield f"a pickle with {name}", Case(lambda p=pickled: zipped(p, {"0": bytes(16)}), (READ,))  # type: ignore[misc]


def tensors() -> Iterator[tuple[str, Case]]:
    """Tensors that lie about themselves, or are of an unusual kind."""
    lies: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "a size beyond its storage": ({"size": (2, 3), "stride": (3, 1)}, ("beyond its storage of 16 bytes",)),
        "a stride beyond its storage": ({"stride": (2**40, 1)}, ("beyond its storage",)),
        "an offset beyond its storage": ({"offset": 3}, ("beyond its storage",)),
        "an offset of 2^63": ({"offset": 2**63}, ("a tensor of size",)),
        "a negative offset": ({"offset": -1}, ("a tensor of size",)),
        "a negative size": ({"size": (-1, 2)}, ("a tensor of size",)),
        "a negative stride": ({"stride": (-1, 1)}, ("a tensor of size",)),
        "a size of 2^70": ({"size": (2**70, 2), "stride": (0, 0)}, ("a tensor of size",)),
        "2^80 elements of one": ({"size": (2**40, 2**40), "stride": (0, 0)}, ("beyond its storage",)),
        "2^40 elements of one": ({"size": (2**40,), "stride": (0,)}, ("claims 1099511627776 elements",)),
        "no elements in 2^90": ({"size": (2**45, 2**45, 0), "stride": (1, 1, 1)}, ()),
        "as many strides as it likes": ({"stride": (1,)}, ("a tensor of size",)),
        "a storage of 2^40": ({"count": 2**40}, ("claims 4398046511104 bytes, and 16 are there",)),
        "a storage of 2^2000": ({"count": 2**2000}, ("claims",)),
        "a negative storage": ({"count": -1}, ("claims -4 bytes",)),
        "a storage that is not there": ({"key": b"7"}, ("storage 7 claims 16 bytes, and is not there",)),
        "a storage in another folder": ({"key": b"../version"}, ("is not there",)),
        "a quantised storage": ({"kind": b"torch\nQInt8Storage"}, ("torch.QInt8Storage",)),
        "an unknown storage": ({"kind": b"torch\nEvilStorage"}, ("torch.EvilStorage",)),
        "a function for its storage": ({"kind": b"evil\nrun"}, ("evil.run",)),
        "a view of its storage": ({"last": b"N"}, (READ,)),
    }
    for name, (changed, said) in lies.items():
        yield f"a tensor with {name}", Case(lambda c=changed: weights(**c), said)  # type: ignore[misc]
    many = b"\x80\x02}" + b"".join(
        text(b"w%d" % n) + tensor((10_000,), (1,), n, 12_000) + b"s" for n in range(1_000)
    ) + b"."  # fmt: skip
    yield "the same bytes as 1,000 tensors", Case(lambda: zipped(many, {"0": bytes(48_000)}), ("again and again",))
    far = b"\x80\x02}" + b"".join(
        text(b"w%d" % n) + tensor((2,), (9_000_000,), n, 10_000_000) + b"s" for n in range(1_000)
    ) + b"."  # fmt: skip
    yield "1,000 tensors of two numbers far apart", Case(lambda: zipped(far, {"0": bytes(40_000_000)}), (READ,))
    unusual: dict[str, Callable[[], torch.Tensor]] = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "meta": lambda: torch.ones(3, device="meta"),
    }
    for kind, make in unusual.items():
        said = f"holds {kind} tensors", "save plain dense weights"
        yield f"a {kind} tensor", Case(lambda m=make: saved({"a": m()}), said)  # type: ignore[misc]
    yield (
        "a conjugated tensor",
        Case(lambda: saved({"a": torch.ones(2, dtype=torch.cfloat).conj()}), ("lazy conjugate",)),
    )
    wide = "claims 1000000000000 elements for a and stores 4 bytes"
    yield "an expanded tensor", Case(lambda: saved({"a": torch.ones(1).expand(10**12)}), (wide, "call .contiguous()"))
    yield "a complex tensor", Case(lambda: saved({"a": torch.ones(2, dtype=torch.cfloat)}), (READ,))
    yield "a tensor without elements", Case(lambda: saved({"a": torch.ones(0, 3)}), (READ,))


def archives() -> Iterator[tuple[str, Case]]:
    """Zip archives that are broken, or made to mislead."""
    good, whole = weights(), plain_checkpoint()
    for kept in (1, 4, 30, 100, 600, 1000, len(whole) // 2, len(whole) - 200, len(whole) - 98, len(whole) - 1):
        yield f"an archive cut after {kept} bytes", Case(lambda k=kept: whole[:k])  # type: ignore[misc]
    again = "copy or download the file again"
    yield "an archive with bytes behind", Case(lambda: good + b"\x00", ("bytes behind its end", again))
    yield "an archive with bytes before", Case(lambda: b"PK\x03\x04" + bytes(60) + good, ("bytes before",))
    yield "two archives in one", Case(lambda: whole + good, ("bytes before",))
    entries = {"archive/data.pkl": holding(tensor()), "archive/data/0": bytes(16)}
    for name in (
        "../MARKER",
        "/MARKER",
        "archive/../../MARKER",
        "archive\\MARKER",
        "C:MARKER",
        "archive//x",
        "a\x1b[2J",
    ):
        content = archive(entries | {"archive/NAME".replace("NAME", "N" * len(name)): b""})
        wrong = content.replace(b"archive/" + b"N" * len(name), b"archive/" + name.encode())
        yield f"an archive with the name {name!r}", Case(lambda w=wrong: w, ())  # type: ignore[misc]
        yield (
            f"an archive with the path {name!r}",
            Case(lambda n=name: archive(entries | {n: b""}), ("no plain paths",)),
        )  # type: ignore[misc]
    twin = archive(entries | {"archive/DATA.PKL": call(b"evil\nrun")})
    yield "two data.pkl", Case(lambda: twin.replace(b"DATA.PKL", b"data.pkl"), ("two entries of one name",))
    yield "data.pkl in other letters", Case(lambda: twin, (READ,))
    yield "only DATA.PKL", Case(lambda: archive({"archive/DATA.PKL": b"\x80\x02}."}), ("without the data.pkl",))
    yield "two folders", Case(lambda: archive(entries | {"other/data.pkl": b"\x80\x02}."}), ("in several folders",))
    yield "data.pkl one folder down", Case(lambda: archive({"a/b/data.pkl": b"\x80\x02}."}), ("without the data.pkl",))
    yield "data.pkl without a folder", Case(lambda: archive({"data.pkl": b"\x80\x02}."}), ("without the data.pkl",))
    at = good.rindex(b"PK\x01\x02", 0, good.rindex(b"archive/data/0"))  # the directory's entry of the weights

    def patched(offset: int, format_: str, value: int) -> bytes:
        changed = bytearray(good)
        struct.pack_into(format_, changed, offset, value)
        return bytes(changed)

    two = "tells two things about one entry"
    yield "a directory with another size", Case(lambda: patched(at + 24, "<I", 2**31), ("unpacks to",))
    yield "a directory with both sizes wrong", Case(lambda: patched(at + 20, "<Q", 64 << 32 | 64), (two,))
    yield "a directory with another method", Case(lambda: patched(at + 10, "<H", 8), (two,))
    yield "a directory with another place", Case(lambda: patched(at + 42, "<I", 0), (two,))
    yield "a directory with a place outside", Case(lambda: patched(at + 42, "<I", 2**31), (two,))
    yield "an encrypted entry", Case(lambda: patched(at + 8, "<H", 1), ("encrypted",))
    yield "a directory of 4 GiB", Case(lambda: patched(len(good) - 10, "<I", 2**32 - 2), ("a directory of",))
    yield "a directory somewhere else", Case(lambda: patched(len(good) - 6, "<I", 2**31), ("bytes before",))
    yield "another name before the entry", Case(lambda: good.replace(b"archive/data/0", b"archive/data/9", 1), (two,))
    flat = {f"archive/{number:x}": b"" for number in range(80_000)}
    yield "80,000 entries", Case(lambda: archive(flat), ("where at most 4194304 are read",))
    yield "entries one inside the other", Case(_overlapping, ("overlap",))
    bomb = {"archive/data.pkl": holding(tensor()), "archive/data/0": bytes(2**27)}
    yield "a zip bomb", Case(lambda: archive(bomb, zipfile.ZIP_DEFLATED), ("that unpacks to",))
    yield (
        "a compressed archive",
        Case(lambda: zipped(b"\x80\x02}.", compression=zipfile.ZIP_DEFLATED), ("compression",)),
    )
    odd = good.replace(b"little", b"middle")
    yield (
        "the byte order of other machines",
        Case(lambda: archive(entries | {"archive/byteorder": b"big"}), ("big-endian byte order",)),
    )
    yield "a byte order of none", Case(lambda: odd, ("middle-endian byte order",))
    yield "bytes flipped in the weights", Case(lambda: good.replace(bytes(16), b"\xff" * 16), (READ,))
    yield "NumPy's archive", Case(_npz, ("without the data.pkl",), ".npz")
    yield "a document", Case(lambda: archive({"word/document.xml": b"<xml/>"}), ("without the data.pkl",), ".docx")


def _overlapping() -> bytes:
    """An archive whose first entry reaches over the second, in both of its headers."""
    content = bytearray(archive({"archive/data.pkl": holding(tensor()), "archive/data/0": bytes(16)}))
    size = len(holding(tensor())) + 70
    struct.pack_into("<II", content, 18, size, size)
    struct.pack_into("<II", content, content.index(b"PK\x01\x02") + 20, size, size)
    return bytes(content)


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2))
    return stream.getvalue()


def legacies() -> Iterator[tuple[str, Case]]:
    """Files of torch.save before 1.6 that are broken or lie."""
    held, keys = holding(tensor(last=b"N")), b"\x80\x02]" + text(b"0") + b"a."
    data = struct.pack("<q", 4) + bytes(16)
    yield "a good legacy file", Case(lambda: legacy(held, keys, data), (READ,))
    convert = "convert it where it was written"
    for name, rest in {
        "of 2^60 elements": struct.pack("<q", 2**60),
        "of -1 elements": struct.pack("<q", -1) + bytes(16),
        "cut short": data[:-1],
        "that is not there": b"",
        "of fewer elements": struct.pack("<q", 1) + bytes(16),
    }.items():
        yield f"a legacy storage {name}", Case(lambda r=rest: legacy(held, keys, r), (convert,))  # type: ignore[misc]
    for name, odd in {
        "unknown": b"\x80\x02]" + text(b"9") + b"a.",
        "of no list": b"\x80\x02K\x07.",
        "of a dict": b"\x80\x02}" + text(b"0") + b"}s.",
        "cut short": b"\x80\x02]",
        "of tuples": b"\x80\x02]" + BOMB + b"a.",
    }.items():
        yield f"legacy keys {name}", Case(lambda k=odd: legacy(held, k, data))  # type: ignore[misc]
    view = holding(tensor(last=text(b"v") + b"K\x00K\x04\x87"))
    yield "a legacy view", Case(lambda: legacy(view, keys, data), ("no tensor's storage",))
    twice = b"\x80\x02}" + text(b"a") + tensor(last=b"N") + b"s" + text(b"b")
    twice += tensor(last=b"N", kind=b"torch\nByteStorage") + b"s."
    version = legacy(held, keys, data).replace(pickle.dumps(1001, protocol=2), b"\x80\x02" + BOMB + b".")
    yield "a legacy version of tuples", Case(lambda: version, ("of the format",))
    yield "a legacy storage of two types", Case(lambda: legacy(twice, keys, data))
    system = pickle.dumps({"little_endian": False}, protocol=2)
    yield "a legacy file of other machines", Case(lambda: legacy(held, keys, data, system), ("big-endian byte order",))
    yield "a legacy file without a system", Case(lambda: legacy(held, keys, data, b"\x80\x02}."), (convert,))
    whole = saved({"state_dict": {"a": torch.ones(3, 3)}}, _use_new_zipfile_serialization=False)
    for kept in (20, 60, 130, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        yield f"a legacy file cut after {kept} bytes", Case(lambda k=kept: whole[:k], (convert,))  # type: ignore[misc]


def foreign() -> Iterator[tuple[str, Case]]:
    """Files of other kinds."""
    html, lfs = b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 276000000\n"
    contents: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "nothing": (b"", ("is empty",)),
        "a web page": (html, ("is a web page",)),
        "a Git LFS pointer": (lfs, ("git lfs pull",)),
        "a table": (b"epoch,loss\n1,0.5\n", ("is a text file",)),
        "JSON": (b'{"epoch": 3}', ("is a text file",)),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), ("it starts with 89 48 44 46",)),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), ("it starts with 89 50",)),
        "a program": (b"\x7fELF" + bytes(64), ("it starts with 7f 45",)),
        "zeros": (bytes(2**20), ("it starts with 00 00",)),
        "gzip": (b"\x1f\x8b\x08" + bytes(40), ("is gzip-compressed",)),
        "a NIfTI image": (nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes(), ("NIfTI image",)),  # type: ignore[no-untyped-call]
        "gzip of something": (gzip.compress(b"weights" * 40), ("is gzip-compressed",)),
        "a pickle of numbers": (pickle.dumps({"weights": [1.0]}), ("is a pickle that torch.save did not write",)),
        "an empty zip archive": (archive({}), ()),
        "something like ONNX": (b"\x08\x07\x12\x04test\x3a" + bytes(20), ()),
        "tar, as torch.save wrote in 2016": (_tar(), ()),
    }
    for name, (content, said) in contents.items():
        yield name, Case(lambda c=content: c, said)  # type: ignore[misc]
    header = b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
    deep = b"[" * 50_000
    for name, (length, head) in {
        "of 2^62": (2**62, header),
        "longer than the file": (10_000, header),
        "too short": (20, header),
        "that is no JSON": (40, b"{" * 40),
        "50,000 deep": (len(deep) + 1, b"{" + deep),
        "of a shape of 2^80": (0, header.replace(b"[2,2]", b"[1099511627776,1099511627776]")),
        "of another size": (0, header.replace(b"[2,2]", b"[2,3]")),
        "of a negative size": (0, header.replace(b"[2,2]", b"[-2,-2]")),
        "of places beyond the file": (0, header.replace(b"16]", b"99]").replace(b"[2,2]", b"[99]")),
        "of places in reverse": (0, header.replace(b"[0,16]", b"[16,0]")),
        "of an unknown type": (0, header.replace(b"F32", b"X99")),
        "of one name twice": (0, header[:-1] + b"," + header[1:]),
    }.items():
        content = struct.pack("<Q", length or len(head)) + head + bytes(16)
        yield f"a safetensors header {name}", Case(lambda c=content: c, (), ".safetensors")  # type: ignore[misc]
    yield "TorchScript", Case(_torchscript, ("TorchScript archive",), ".pt")
    script = {
        "archive/constants.pkl": call(b"evil\nrun"),
        "archive/data.pkl": call(b"evil\nrun"),
        "archive/code/x.py": b"",
    }
    yield "something like TorchScript", Case(lambda: archive(script), ("TorchScript archive",), ".pt")
    program = {
        "program/archive_format": b"pt2",
        "program/models/model.json": b"{}",
        "program/data.pkl": CODE["eval"][0],
    }
    yield "something like a .pt2", Case(lambda: archive(program), (".pt2",), ".pt2")


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(CODE["eval"][0])
            made.addfile(info, io.BytesIO(CODE["eval"][0]))
    return stream.getvalue()


def _torchscript() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()


CASES: dict[str, Case] = {
    name: case for group in (code, pickles, tensors, archives, legacies, foreign) for name, case in group()
}
