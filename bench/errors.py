"""What can go wrong, in words for the user. Every message is one line: what was found, where, what to do.

BenchError
├── InputError           the command or the data cannot be used (exit code 2)
│   └── StorageError     a place cannot be written to, or is full
├── BackendLostError     the baseline was skipped or failed (exit code 4)
├── CommandError         an own command did not do what it should; it has failed (likewise)
├── NotFiniteError       a variant gave NaN or infinity; it has failed (exit code 4 where it is the baseline)
└── InterruptedRunError  the run was stopped; what was measured is saved (exit code 130)
"""


class BenchError(Exception):
    """Base of the errors the command line turns into one line and an exit code."""


class InputError(BenchError):
    """A file, a folder or an option that cannot be used; nothing was written."""


class StorageError(InputError):
    """A file cannot be written, for want of room or leave; what was written before it is whole."""


class BackendLostError(BenchError):
    """The run cannot go on without this backend."""


class CommandError(BenchError):
    """An own command broke, took too long, or did not write what it should."""


class NotFiniteError(BenchError):
    """Logits, or sums of them, that are NaN or infinite: no mask and no class follow from them."""


class InterruptedRunError(BenchError):
    """The run was stopped; what was measured is saved."""
