"""What a pickle wants to import, found by disassembling it, which runs nothing."""

import pickletools
from io import BytesIO

LOOKED_AT = 16 * 2**20  # bytes of a pickle that are disassembled at most


def globals_in(data: bytes, pickles: int = 1) -> list[str]:
    """Name the globals in `pickles` consecutive pickles, each as ``module.name``, in order of appearance.

    A damaged pickle gives what was found up to the damage.
    """
    stream = BytesIO(data[:LOOKED_AT])
    found: dict[str, None] = {}
    strings = ["?", "?"]
    try:
        for _ in range(pickles):
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    found[str(argument).replace(" ", ".")] = None
                elif opcode.name == "STACK_GLOBAL":  # takes the two strings last pushed
                    found[".".join(strings[-2:])] = None
                elif opcode.name.startswith("EXT"):
                    found[f"copyreg extension {argument}"] = None
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # genops raises whatever a hostile length or string makes it raise
        return list(found)
    return list(found)
