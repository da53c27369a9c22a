"""Verifies that a pickle does nothing but build tensors and plain values, by walking its opcodes, which runs nothing.

fickling and picklescan search a pickle for known dangers. This proves their absence: whatever is not on the short list
of opcodes, names and kinds of values is refused, so that what is unknown is refused too.
"""

import pickletools
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

from models.errors import some

MOST_BYTES = 16 * 2**20  # bytes of a pickle that are read at most; that of a 1 GB checkpoint has less than one MB
MOST_OPCODES = 10**6
LONGEST_KEY = 1000  # characters of a name
_COPIES, _FEW = 4, 2**17  # what objects may be made of, in values and letters: for each byte of a pickle, and at first
_LARGEST_KEY = 2**61 - 1  # integers from here on can be chosen to have one and the same hash

# All that torch.save writes of tensors and plain values, with its own pickle protocol, 2.
_OPCODES = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT",
}  # fmt: skip
_KEYS = {"str", "bytes_or_str", "int", "bool", "float", "None"}  # hashed in no time, unlike tuples in tuples
_NUMBERS = ("object numpy.core.multiarray.scalar", "object numpy._core.multiarray.scalar")


class UnsafePickleError(Exception):
    """A pickle holds more than tensors and plain values.

    Attributes:
        wanted: the globals it names that are not known.
    """

    def __init__(self, problem: str, wanted: list[str] | None = None) -> None:
        super().__init__(problem)
        self.wanted = wanted or []


def globals_in(data: bytes, pickles: int = 1) -> list[str]:
    """Name the globals in `pickles` consecutive pickles, each as ``module.name``, in order of appearance.

    Of a damaged pickle those before the damage.
    """
    stream = BytesIO(data[:MOST_BYTES])
    names: dict[str, None] = {}
    strings = ["?", "?"]
    try:
        for _ in range(pickles):
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    names[_global_name(argument)] = None
                elif opcode.name == "STACK_GLOBAL":  # takes the two strings last pushed
                    names[".".join(strings[-2:])] = None
                elif opcode.name.startswith("EXT"):
                    names[f"copyreg extension {argument}"] = None
                elif isinstance(argument, str):
                    strings = [strings[-1], argument]
    except Exception:  # genops raises whatever a hostile length or string makes it raise
        return list(names)
    return list(names)


def verify(stream: BytesIO, known: Mapping[str, object]) -> set[str]:
    """Follow the next pickle in `stream` to its end without unpickling it; return the globals it names.

    `known` says what the unpickler takes each global for. What passes calls only those, on arguments in a tuple,
    fills and gives a state to instances of the classes among them only, has dict keys that are cheap to hash, and
    unpickles in memory and time proportional to its length.

    Raises:
        UnsafePickleError: it needs more than a checkpoint of tensors and plain values does.
        ValueError, LookupError: it is damaged.
    """
    start = stream.tell()
    names: set[str] = set()
    stack = _Stack(known)
    for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        name = _global_name(argument) if opcode.name == "GLOBAL" else None
        if opcode.name not in _OPCODES or (name and name not in known):
            raise _unsafe_pickle(stream.getvalue()[start:], known)
        if count > MOST_OPCODES:
            raise UnsafePickleError(f"holds a pickle of more than {MOST_OPCODES} instructions")
        if name:
            names.add(name)
        stack.step(opcode, name or argument)
        if stack.copied > _FEW + _COPIES * ((position or 0) - start):
            raise UnsafePickleError("makes objects of the same long values again and again")
    return names


def _global_name(argument: Any) -> str:
    """Turn ``module name`` into ``module.name``; Python 2 and protocol 2 say ``__builtin__``."""
    module, _, name = str(argument).partition(" ")
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


def _unsafe_pickle(pickled: bytes, known: Mapping[str, object]) -> UnsafePickleError:
    """Say what is wrong: which globals are not known, and which opcodes are not in the subset."""
    wanted = [name for name in globals_in(pickled) if name not in known]
    odd: dict[str, None] = {}
    try:
        for opcode, _, _ in pickletools.genops(pickled):
            if opcode.name not in _OPCODES:
                odd[opcode.name] = None
    except Exception:  # as in globals_in
        pass
    if not odd:
        return UnsafePickleError(f"holds code or objects, not only tensors: it wants {some(wanted)}", wanted)
    extra = f" and wants {some(wanted)}" if wanted else ""
    return UnsafePickleError(f"uses pickle instructions outside the safe subset ({some(list(odd))}){extra}", wanted)


class _Kind(str):
    """What a value is, in the words of pickletools.

    Attributes:
        sizes: its values or letters, those of its values, and those of theirs: no constructor copies what lies deeper.
    """

    __slots__ = ("sizes",)
    sizes: tuple[int, int, int]

    def __new__(cls, kind: str, size: int = 0) -> "_Kind":
        made = super().__new__(cls, kind)
        made.sizes = size, 0, 0
        return made

    def add(self, items: list["_Kind"]) -> "_Kind":
        more = len(items), sum(item.sizes[0] for item in items), sum(item.sizes[1] for item in items)
        self.sizes = self.sizes[0] + more[0], self.sizes[1] + more[1], self.sizes[2] + more[2]
        return self


@cache
def _shared_kind(kind: str) -> _Kind:
    """The only object for all values of a kind that has no values in it."""
    return _Kind(kind)


class _Stack:
    """What the unpickler's stack would hold: of each value its kind.

    `copied` is how many values and letters objects were made of: a pickle can have them made of one long value again
    and again, at a few bytes each.
    """

    def __init__(self, known: Mapping[str, object]) -> None:
        self.copied = 0
        self.made = {f"object {name}" for name, meaning in known.items() if isinstance(meaning, type)}
        self.lists, self.dicts = self.made | {"list"}, self.made | {"dict"}
        self.kinds: list[_Kind] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Kind] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        match opcode.name:
            case "PROTO":
                pass
            case "MARK":
                self.marks.append(len(self.kinds))
            case "BINPUT" | "LONG_BINPUT":
                if argument > MOST_OPCODES:  # the unpickler's memo is an array
                    raise UnsafePickleError(f"holds a pickle that numbers a value {argument}")
                [kind] = self._pop(1)
                self.kinds.append(kind)
                self.memo[argument] = kind
            case "BINGET" | "LONG_BINGET":
                self.kinds.append(self.memo[argument])
            case "STOP":
                self._pop(1)
                if self.kinds or self.marks:
                    raise ValueError("it ends with values left over")
            case name if not opcode.stack_before:
                self.kinds.append(_kind_of(name, argument, opcode.stack_after[0].name))
            case name:
                self.kinds.append(self._apply(name))

    def _apply(self, name: str) -> _Kind:
        """Pop the operands of an opcode, and return the kind of its result."""
        items = self._pop_to_mark() if name in ("TUPLE", "APPENDS", "SETITEMS") else []
        match name:
            case "TUPLE":
                return _Kind("tuple").add(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                return _Kind("tuple").add(self._pop(int(name[-1])))
            case "APPEND" | "APPENDS":
                target, *item = self._pop(1 if name == "APPENDS" else 2)
                return _expect(target, self.lists, name).add(items or item)
            case "SETITEM" | "SETITEMS":
                target, *pair = self._pop(1 if name == "SETITEMS" else 3)
                for key in (items or pair)[::2]:
                    _expect(key, _KEYS, "a dict's key")
                return _expect(target, self.dicts, name).add(items or pair)
            case "BUILD":
                return _expect(self._pop(2)[0], self.made, name)
            case "BINPERSID":
                _expect(self._pop(1)[0], {"tuple"}, name)
                return _Kind("storage")
        function, arguments = self._pop(2)  # REDUCE or NEWOBJ
        _expect(arguments, {"tuple"}, name)
        if not function.startswith("global "):
            raise UnsafePickleError(f"uses the pickle instruction {name} on something other than a name")
        self.copied += sum(arguments.sizes)
        made = _Kind(function.replace("global", "object", 1))
        if name == "NEWOBJ":
            return _expect(made, self.made, name)
        return _Kind("int") if made in _NUMBERS else made

    def _pop(self, number: int) -> list[_Kind]:
        start = len(self.kinds) - number
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("it takes values that are not there")
        popped = self.kinds[start:]
        del self.kinds[start:]
        return popped

    def _pop_to_mark(self) -> list[_Kind]:
        start = self.marks.pop()
        popped = self.kinds[start:]
        del self.kinds[start:]
        return popped


def _kind_of(name: str, argument: Any, kind: str) -> _Kind:
    """Name the kind of a plain value, keeping apart what may be a dict's key and what may not."""
    if name == "GLOBAL":
        return _Kind(f"global {argument}")
    if isinstance(argument, str | bytes):
        return _Kind("long text" if len(argument) > LONGEST_KEY else kind, len(argument))
    if isinstance(argument, int) and abs(argument) >= _LARGEST_KEY:
        return _Kind("giant integer")
    return _Kind(kind) if name.startswith("EMPTY") else _shared_kind(kind)


def _expect(kind: _Kind, wanted: set[str], place: str) -> _Kind:
    if kind not in wanted:
        raise UnsafePickleError(f"holds a pickle with the wrong kind of value: {kind} for {place}")
    return kind
