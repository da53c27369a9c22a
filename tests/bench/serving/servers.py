"""Model servers for tests, started on free ports and stopped again."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_S = 120.0
OLDER_NUMPY = Path(sys.prefix) / "numpy-of-pytriton"
"""NumPy 1, which `make setup` puts beside the other packages: PyTriton 0.7 ships Triton 24.10, whose Python backend
gives empty tensors with NumPy 2. Later ones take it (triton-inference-server/python_backend, pull request 384)."""

# Stands for Triton's backend of ONNX Runtime, which the server of PyTriton comes without.
TILE_MODEL = """
import numpy as np
import onnxruntime
from pathlib import Path
import triton_python_backend_utils as triton

OUTPUTS = ("segmentation", "classification")

class TritonPythonModel:
    def initialize(self, arguments):
        path = Path(arguments["model_repository"]) / arguments["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        image = triton.get_input_tensor_by_name(request, "image").as_numpy()
        wanted = [name for name in OUTPUTS if name in request.requested_output_names()]
        values = self._session.run(wanted, {"image": image})
        return triton.InferenceResponse([triton.Tensor(name, value) for name, value in zip(wanted, values)])
"""


@dataclass
class Served:
    """A running server: where it is, its process, and what it has printed."""

    grpc: str
    http: str
    metrics: str
    process: subprocess.Popen
    log: Path

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Of it and all that it started."""
        import psutil

        server = psutil.Process(self.process.pid)
        return [server.pid, *(child.pid for child in server.children(recursive=True))]


def pytriton() -> Path | None:
    """The folder of PyTriton's server; None where it is missing, or what it needs for this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "tritonserver"
    stubs = folder / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    return folder if stubs.is_dir() and OLDER_NUMPY.is_dir() else None


def with_python_tiles(repository: Path) -> None:
    """Have Triton's Python backend run the tile networks of a repository."""
    for config in repository.glob("*/config.pbtxt"):
        if 'backend: "onnxruntime"' in config.read_text():
            config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
            (config.parent / "1" / "model.py").write_text(TILE_MODEL)


@contextmanager
def triton(repository: Path, scratch: Path, *options: str) -> Iterator[Served]:
    """NVIDIA Triton's server with its Python backend, as PyTriton ships both."""
    folder = pytriton()
    assert folder is not None
    backend = scratch / "backends" / "python"
    shutil.copytree(folder / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (folder / "python_backend_stubs" / version).iterdir():
        shutil.copy(file, backend)
    server = scratch / "tritonserver"
    shutil.copy(folder / "bin" / "tritonserver", server)
    for program in (server, backend / "triton_python_backend_stub"):
        program.chmod(0o755)
    grpc, http, metrics = free_ports(3)
    command = [
        str(server), "--model-repository", str(repository), "--backend-directory", str(backend.parent),
        "--cache-directory", str(folder / "caches"), "--http-port", http, "--grpc-port", grpc,
        "--metrics-port", metrics, "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", *options,
    ]  # fmt: skip
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = str(folder.parents[1] / "nvidia_pytriton.libs")
    environment["PATH"] = f"{_python_of_models(scratch)}{os.pathsep}{environment['PATH']}"
    with _running(command, environment, scratch, Served(grpc, http, metrics, None, scratch / "log")) as served:
        yield served


def _python_of_models(scratch: Path) -> Path:
    """A Python for Triton's models, with the packages of these tests but for NumPy; the folder of its program."""
    venv.create(scratch / "python")
    own, ours = (sysconfig.get_path("purelib", vars={"base": str(base)}) for base in (scratch / "python", sys.prefix))
    lines = (str(OLDER_NUMPY), f"import site; site.addsitedir({ours!r})", str(Path(__file__).resolve().parents[3]))
    Path(own, "packages.pth").write_text("\n".join(lines) + "\n")
    return scratch / "python" / "bin"


@contextmanager
def mlserver(repository: Path, scratch: Path) -> Iterator[Served]:
    """MLServer."""
    grpc, http, metrics = free_ports(3)
    ports = {"MLSERVER_HTTP_PORT": http, "MLSERVER_GRPC_PORT": grpc, "MLSERVER_METRICS_PORT": metrics}
    environment = dict(os.environ) | ports | {"MLSERVER_HOST": "127.0.0.1"}
    command = [str(Path(sys.executable).with_name("mlserver")), "start", str(repository)]
    with _running(command, environment, scratch, Served(grpc, http, metrics, None, scratch / "log")) as served:
        yield served


@contextmanager
def _running(command: list[str], environment: dict[str, str], scratch: Path, served: Served) -> Iterator[Served]:
    ours = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), ours)))
    with served.log.open("w") as log:
        served.process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=scratch, start_new_session=True
        )
    try:
        _wait_until_ready(served)
        yield served
    finally:
        served.process.terminate()
        try:
            served.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(served.process.pid, 9)
            raise


def _wait_until_ready(served: Served) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and served.process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{served.http}/v2/health/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"the server did not become ready:\n{served.printed()[-4000:]}")


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def metric(served: Served, name: str) -> float:
    """The sum of a metric of the server over all its labels."""
    with urlopen(f"http://127.0.0.1:{served.metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))
