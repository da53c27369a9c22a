"""Gzip of whole files in memory, by ISA-L.

What is written is the same for equal bytes as a rule: once two of 66 masks came out of ISA-L in another stream of the
same length, for a reason that was not found.
"""

import zlib
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Any

from isal import isal_zlib

# The stubs of isal take its class for an instance.
ERRORS: tuple[type[Exception], ...] = (zlib.error, isal_zlib.error)  # type: ignore[assignment]
"""What a damaged stream raises."""

_GZIP = 31  # window of 32 KiB, gzip header and trailer with the CRC of the content
_TRAILER = 4  # bytes at the end: the content's size modulo 2^32, little-endian
_LEVEL = 1  # label volumes compress about as well at any level


def gunzip(packed: bytes, size: int) -> bytes | None:
    """Unpack a gzip file of one member whose content has `size` bytes, into one buffer and without a copy.

    None where it is no such file: its last bytes tell another size, or it has several members.

    Raises:
        one of ERRORS: it is damaged; the content is checked against its CRC.
    """
    if int.from_bytes(packed[-_TRAILER:], "little") != size % 2**32:
        return None
    content: bytes = isal_zlib.decompress(packed, wbits=_GZIP, bufsize=size)
    return content if len(content) == size else None


def gunzip_to_the_end(path: Path, size: int) -> bytes:
    """The first `size` bytes of what a gzip file of any form holds, all of which is read for the sake of its CRCs.

    Bytes behind the last member that are no gzip are ignored, as gzip itself does.

    Raises:
        OSError, EOFError or one of ERRORS: it is damaged, cut short, or holds less.
    """
    with GzipFile(path) as file:
        content = file.read(size)
        try:
            while file.read(2**20):
                pass
        except BadGzipFile as error:
            if "Not a gzipped file" not in str(error):
                raise
    if len(content) < size:
        raise EOFError(f"{len(content)} bytes where {size} are expected")
    return content


def gunzip_within(packed: bytes, most: int) -> bytes | None:
    """Unpack a gzip file of one or more members; None, and no more memory taken, where it holds more than `most` bytes.

    Raises:
        EOFError or one of ERRORS: it is damaged or cut short.
    """
    content, rest = list[bytes](), packed
    while rest:
        stream = isal_zlib.decompressobj(_GZIP)
        content.append(stream.decompress(rest, most + 1))
        most -= len(content[-1])
        if most < 0:
            return None
        if not stream.eof:
            raise EOFError("the stream is cut short")
        rest = stream.unused_data
    return content[0] if len(content) == 1 else b"".join(content)


def inflate(packed: bytes, most: int) -> bytes:
    """Unpack a zlib stream as far as `most` bytes and one; what stands behind it is ignored.

    Raises:
        one of ERRORS: it is damaged or cut short; the content is checked against its Adler-32.
    """
    stream = isal_zlib.decompressobj(zlib.MAX_WBITS)
    content: bytes = stream.decompress(packed, most + 1)
    if len(content) <= most and not stream.eof:
        raise zlib.error("the stream is cut short")
    return content


def gzip(content: Any) -> bytes:
    """Pack a buffer; no name and no time in the header, so that equal contents are equal files."""
    packed: bytes = isal_zlib.compress(content, _LEVEL, wbits=_GZIP)
    return packed


def deflate(content: Any) -> bytes:
    """Pack a buffer as a zlib stream."""
    packed: bytes = isal_zlib.compress(content, _LEVEL, wbits=zlib.MAX_WBITS)
    return packed
