"""A store of MLflow for all tests here: to make a database takes seconds. Every way to a server leads to a listener."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.trackers.listener import Listener, listening


@pytest.fixture(autouse=True)
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Stands in the place of the network during a test."""
    with listening() as own:
        for name, value in own.variables.items():
            monkeypatch.setenv(name, value)
        yield own


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a database that MLflow has made."""
    from sqlalchemy import Engine, event

    from bench.trackers.mlflow_store import _library

    event.listen(Engine, "connect", _in_memory)
    folder = tmp_path_factory.mktemp("mlflow")
    _library()[0](tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    yield folder
    event.remove(Engine, "connect", _in_memory)


def _in_memory(connection: Any, _: object) -> None:
    """Wait for no disk: its tables are made in hundreds of steps."""
    connection.execute("pragma synchronous = off")


@pytest.fixture
def uri(store: Path) -> str:
    return f"sqlite:///{store}/mlflow.db"


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)
