"""Work on a GPU beside what the network has there, handed over when it is done. On a CPU nothing differs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_READERS = 4  # threads that read ahead for a GPU: on an H100 a case of the demo was read longer than it was run


class Handover:
    """Tensors that one stream of a GPU has made, for another one.

    Attributes:
        event: behind which they are there; None on a CPU.
    """

    event: Any = None

    def take(self, tensor: "Tensor") -> None:
        """Let the current stream wait for `tensor`, whose memory is not given to others before it is done with it."""
        if self.event is None or not tensor.is_cuda:
            return
        import torch

        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(self.event)
        tensor.record_stream(current)


class SideStream:
    """A stream of its own on a GPU; several threads may use it."""

    def __init__(self, device: "torch.device") -> None:
        self._stream: Any = None
        if device.type == "cuda":
            import torch

            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def work(self) -> Iterator[Handover]:
        """What is launched within it runs there."""
        handover = Handover()
        if self._stream is None:
            yield handover
            return
        import torch

        with torch.cuda.stream(self._stream):
            yield handover
            handover.event = self._stream.record_event()
