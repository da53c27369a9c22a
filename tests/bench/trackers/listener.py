"""A socket in the place of the network: whoever wants to reach a server, by whatever name, connects to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Listener:
    """Counts connections, and closes each at once."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def variables(self) -> dict[str, str]:
        """Of an environment that leads requests here, those to W&B's servers and all others."""
        address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return dict.fromkeys((*_PROXIES, "WANDB_BASE_URL"), address) | {"NO_PROXY": "", "no_proxy": ""}


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()
