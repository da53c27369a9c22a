"""A process with OpenVINO outlives its networks, and can be interrupted still."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_INTERRUPTED = """
import gc, signal, sys, threading
from engines.openvino.matrix_product import products

def close(networks):
    networks.pop(0)
    gc.collect()

networks = [products("fp32", 128, 1) for _ in range(2)]
for _ in range(2):
    if sys.argv[1] == "elsewhere":
        thread = threading.Thread(target=close, args=(networks,))
        thread.start()
        thread.join()
    else:
        close(networks)
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("where", ["in the order of their opening", "elsewhere"])
def test_an_interrupt_after_networks_were_closed(where):
    command = [sys.executable, "-c", _INTERRUPTED, where]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr
