"""Feeds damaged and forged checkpoints to the reader, which must read each or refuse it in one line.

    python scripts/fuzz_checkpoints.py [--inputs 100000] [--seed 0] [--out FOLDER] [--random]

Small real files (zip with numpy numbers and optimizer state, other types of numbers, legacy, safetensors) are changed
inside their pickle, by whole instructions or by bytes, in the headers of their archive, or anywhere. With atheris
installed its coverage of `models` chooses which changed inputs are changed further; without it, or with `--random`,
each input is a few changes away from a real file and follows from the seed.

A failure is any exception but CheckpointError, a crash, over 10 s, over 1 GiB, or code of the input that ran. It ends
the run with exit code 1 (atheris: its own code), and the input is kept in the folder.
"""

import argparse
import faulthandler
import io
import json
import os
import pickletools
import random
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT_S, LIMIT_KB = 10, 2**20
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
PIECES = (
    b"cposix\nsystem\nX\x0c\x00\x00\x00touch MARKER\x85R", b"\x8c\x05posix\x8c\x06system\x93",
    b"(X\x01\x00\x00\x00xios\nsystem\n",
    b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R", b"ccollections\nOrderedDict\n)R", b"c__builtin__\nbytearray\n",
    b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x40",
    b"q\x00h\x00\x86", b"r\xff\xff\xff\x7f", b"\x82\x7f", b"h\x00", b"q\x00",
    *(bytes([opcode]) for opcode in b"(t]})0\x85\x86RbQasue.\x81\x95N"),
)  # fmt: skip


class FuzzFailure(Exception):  # noqa: N818
    """The reader did something that no file may make it do."""


def seeds() -> list[bytes]:
    """Real files, each of a few kB."""
    import numpy as np
    import torch

    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Linear(4, 3))
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = network.state_dict()
    held = {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "f1": np.float64(0.5),
    }
    kinds = [torch.bfloat16, torch.float16, torch.float8_e5m2, torch.uint16, torch.complex64, torch.bool]
    other: dict[str, Any] = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    other |= {"turned": torch.ones(2, 3).t(), "part": torch.ones(9)[2:4], "none": torch.ones(0)}
    files = []
    for document, modern in ((held, True), (other, True), (held, False)):
        stream = io.BytesIO()
        torch.save(document, stream, _use_new_zipfile_serialization=modern)
        files.append(stream.getvalue())
    try:
        from safetensors.torch import save
    except ImportError:
        return files
    return [*files, save(state)]


def change(data: bytes, draw: random.Random) -> bytes:
    """Change a file once: in its pickle, in its archive, or anywhere."""
    where: list[Callable[[bytes, random.Random], bytes]] = [_anywhere, _anywhere]
    if data.startswith(b"PK\x03\x04"):
        where += [_in_zip_pickle, _in_zip_pickle, _in_zip_pickle, _in_directory]
    elif data.startswith(b"\x80"):
        where += [_in_pickle, _in_pickle]
    return draw.choice(where)(data, draw)


def _anywhere(data: bytes, draw: random.Random) -> bytes:
    """Change bytes, or cut, repeat or insert some."""
    changed = bytearray(data or b"\x00")
    at = draw.randrange(len(changed))
    match draw.randrange(6):
        case 0:
            del changed[at:]
        case 1:
            del changed[at : at + draw.randint(1, 64)]
        case 2:
            changed[at:at] = changed[at : at + draw.randint(1, 64)]
        case 3:
            changed[at:at] = draw.choice(PIECES)
        case 4:
            number = struct.pack("<Q", draw.choice(NUMBERS))[: draw.choice((1, 2, 4, 8))]
            changed[at : at + len(number)] = number
        case _:
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _in_zip_pickle(data: bytes, draw: random.Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # no longer an archive
        return _anywhere(data, draw)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries:
            wanted = name.endswith("data.pkl") or draw.random() < 0.02
            archive.writestr(name, _in_pickle(content, draw) if wanted else content)
    return stream.getvalue()


def _in_directory(data: bytes, draw: random.Random) -> bytes:
    """Change a number in a header or in the directory of an archive."""
    marks = [at for mark in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06") for at in _every(data, mark)]
    if not marks:
        return _anywhere(data, draw)
    changed = bytearray(data)
    at, width = draw.choice(marks) + draw.randrange(4, 70), draw.choice((1, 2, 4))
    near = int.from_bytes(changed[at : at + width], "little") + draw.choice((-64, -1, 1, 64))
    number = draw.choice((*NUMBERS, near)) % 256**width
    changed[at : at + width] = number.to_bytes(width, "little")
    return bytes(changed)


def _every(data: bytes, mark: bytes) -> list[int]:
    return [at for at in range(len(data) - 3) if data[at] == 0x50 and data.startswith(mark, at)]


def _in_pickle(pickled: bytes, draw: random.Random) -> bytes:
    """Drop, repeat, swap, insert or renumber instructions."""
    starts = [0]
    with suppress(Exception):  # damaged from here on
        starts += [position for _, _, position in pickletools.genops(pickled) if position]
    if len(starts) < 4 or draw.random() < 0.2:
        return _anywhere(pickled, draw)
    steps = [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]
    for _ in range(draw.randint(1, 3)):
        at, other = draw.randrange(len(steps)), draw.randrange(len(steps))
        match draw.randrange(6):
            case 0:
                del steps[at : at + draw.choice((1, 1, 2, 5))]
            case 1:
                steps[at:at] = steps[other : other + draw.randint(1, 30)]
            case 2:
                steps[at], steps[other] = steps[other], steps[at]
            case 3:
                steps[at : at + draw.randrange(2)] = [draw.choice(PIECES)]
            case 4:
                steps[at:at] = [draw.choice(PIECES)] * draw.choice((2, 10, 1000))
            case _:
                steps[at] = b"\x8a\x08" + struct.pack("<Q", draw.choice(NUMBERS))
        if not steps:
            break
    return b"".join(steps)


class Target:
    """Reads inputs, in a folder of its own."""

    def __init__(self, out: Path) -> None:
        from models.errors import CheckpointError
        from models.inspection import describe, inspect

        self.describe, self.inspect, self.refusal = describe, inspect, CheckpointError
        self.out = out
        self.read = self.refused = self.before = 0
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)
        self.file = Path("input.pth")
        for seed in seeds():  # warm: what the libraries allocate once is not the input's
            self(seed)
        self.before = self._peak()

    def __call__(self, data: bytes) -> None:
        self.file.unlink(missing_ok=True)
        self.file.write_bytes(data)
        faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True)  # for what hangs inside C
        started = time.monotonic()
        try:
            json.dumps(self.describe(self.inspect(self.file)))
            self.read += 1
        except self.refusal as refused:
            self.refused += 1
            text = str(refused)
            if not text.startswith(f"{self.file}: ") or "; " not in text or not text.isprintable():
                raise FuzzFailure(f"words that do not fit: {text!r}") from None
        finally:
            faulthandler.cancel_dump_traceback_later()
        if (taken := time.monotonic() - started) > LIMIT_S:
            raise FuzzFailure(f"{taken:.1f} s")
        if (grown := self._peak() - self.before) > LIMIT_KB:
            raise FuzzFailure(f"{grown} kB of memory")
        if Path("MARKER").exists():
            raise FuzzFailure("code of the input ran")

    def _peak(self) -> int:
        """Kilobytes; not by getrusage, whose peak a process inherits from the one that started it."""
        with Path("/proc/self/status").open() as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def fuzz_at_random(target: Target, inputs: int, seed: int) -> None:
    """Read real files with up to four changes each; every thousandth line tells how far it is."""
    draw, files = random.Random(seed), seeds()
    for number in range(1, inputs + 1):
        data = draw.choice(files)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            data = change(data, draw)
        (target.out / "last.pth").write_bytes(data)  # is left there if the process dies
        target(data)
        if number % 1000 == 0:
            print(f"{number}: {target.read} read, {target.refused} refused", flush=True)


def fuzz_by_coverage(target: Target, inputs: int, seed: int) -> None:
    import atheris

    corpus = target.out / "seeds"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        data = change(data, draw) if data else draw.choice(seeds())
        return data[:longest]

    options = [f"-runs={inputs}", f"-seed={seed + 1}", f"-timeout={LIMIT_S}", "-rss_limit_mb=4096", "-max_len=65536"]
    options += [f"-artifact_prefix={target.out}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options], target, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where failing inputs are kept")
    parser.add_argument("--random", action="store_true", help="without atheris, even where it is installed")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    by_coverage = not options.random
    if by_coverage:
        try:
            import atheris
        except ImportError:
            by_coverage = False
        else:
            with atheris.instrument_imports(include=["models", "pickletools", "zipfile"]):
                import models.inspection  # noqa: F401
    import torch

    torch.set_num_threads(1)
    target, started = Target(out), time.monotonic()
    if by_coverage:
        fuzz_by_coverage(target, options.inputs, options.seed)  # exits by itself
    try:
        fuzz_at_random(target, options.inputs, options.seed)
    except Exception as failure:
        kept = out / f"failure-{type(failure).__name__}.pth"
        (out / "last.pth").rename(kept)
        print(f"{type(failure).__name__}: {failure}; the input is kept in {kept}")
        raise SystemExit(1) from failure
    taken = time.monotonic() - started
    counts = f"{target.read} read, {target.refused} refused"
    print(f"{options.inputs} inputs clean, seed {options.seed}: {counts}, {taken:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
