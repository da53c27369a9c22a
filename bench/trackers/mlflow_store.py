"""A run in the store of MLflow: a parent run, and a child of it for each variant.

MLflow's own way to show variants side by side is child runs with metrics of the same names. The store may be a server,
or a database file; folders of files, which older ones had, MLflow itself refuses since version 3.13.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import InputError, StorageError
from models.errors import install, one_line, without_passwords
from reports.formatting import count
from reports.render.exchange.tracking import RUN_TAG, Tracked, TrackedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"  # as MLflow has it itself, so that `mlflow ui` shows it
_SQLITE = "sqlite:///"
_PARENT, _NOTE = "mlflow.parentRunId", "mlflow.note.content"
_NOT_A_KEY = re.compile(r"[^/\w.\- :]")  # what MLflow takes in the name of a metric or parameter
_LONGEST_KEY, _LONGEST_VALUE = 250, 6000  # letters of a name, and of a parameter's value
_DATABASE = re.compile(r"(postgresql|mysql|mssql|sqlite)(\+\w+)?://")
_BATCH = 100  # parameters that MLflow takes in a call; of metrics it takes more


def log(tracked: Tracked, files: Mapping[str, bytes], *, uri: str | None, experiment: str, again: bool) -> str:
    """Put a run into a store, and say where it is; what fails midway is taken out again.

    Args:
        tracked: figures, parameters and tags.
        files: that are kept with the run, by name.
        uri: of the store; None for that of MLFLOW_TRACKING_URI, else `DEFAULT_URI`.
        experiment: made where it is missing.
        again: also where this run is in it already.

    Raises:
        InputError: MLflow is not installed, the run is there already, or MLflow or the database refuses.
        StorageError: the folder of the database file cannot be written to.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    shown = without_passwords(uri)
    client_of, refused = _library()
    _check_file(uri)
    if _DATABASE.match(uri):
        _try_once()
    try:
        client = client_of(tracking_uri=uri)
        number = _experiment(client, uri, experiment)
        if not again and (before := _logged(client, number, tracked.run.tags[RUN_TAG])) is not None:
            raise InputError(
                f"{shown}: experiment {experiment} holds run {tracked.run.tags[RUN_TAG]} already, as {before}; "
                "log it a second time with --again"
            )
        with _all_or_nothing(client) as made:
            parent = _log_run(client, number, tracked.run, tracked, made)
            for variant in tracked.variants:
                _log_run(client, number, variant, tracked, made, parent)
            _log_files(client, parent, files)
            for run_id in made:
                client.set_terminated(run_id, end_time=_ms(tracked.ended_unix_s))
    except ModuleNotFoundError as error:
        raise InputError(f"{shown}: takes the package {error.name}, which is not installed; install it") from None
    except refused as error:
        who = "MLflow" if type(error).__module__.startswith("mlflow") else "the database"
        said = without_passwords(one_line(error)).partition(" (Background on this error")[0]
        raise InputError(f"{shown}: {who} refuses: {said}; give another --uri or --experiment") from None
    return f"{experiment}: run {parent} with {count(len(tracked.variants), 'variant')}, in {shown}"


def _library() -> tuple[Any, tuple[type[Exception], ...]]:
    """The client of MLflow, and what it and its database raise. It sends no usage data of ours, and says nothing but
    warnings.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError as error:
        raise InputError(
            f"bench log mlflow: takes {(error.name or '').partition('.')[0]}, which is not installed; "
            f"{install('mlflow')}"
        ) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it has set another one
    return MlflowClient, (MlflowException, SQLAlchemyError)


def _check_file(uri: str) -> None:
    """Refuse a database file that cannot be opened, which MLflow itself would try for minutes."""
    if (path := _file(uri)) is None:
        return
    there = path.exists()
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma user_version").fetchone()
            connection.execute("begin immediate")
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot be used as MLflow's database ({error}); name another --uri") from None
    if not there:
        path.unlink(missing_ok=True)


def _try_once() -> None:
    """Have MLflow give up on a database that cannot be reached at once; its ten tries take minutes."""
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 1


def _file(uri: str) -> Path | None:
    """Of a database in a file."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """The number of an experiment; one that is made keeps its files beside the database, as MLflow's own do."""
    if (known := client.get_experiment_by_name(name)) is not None:
        return str(known.experiment_id)
    path = _file(uri)
    location = None if path is None else (path.absolute().parent / "mlruns" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _logged(client: "MlflowClient", experiment: str, run: str) -> str | None:
    """The number of the run that was logged before."""
    same = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run}' and tags.`voxbench.kind` = 'run'")
    return same[0].info.run_id if same else None


@contextmanager
def _all_or_nothing(client: "MlflowClient") -> Iterator[list[str]]:
    """Collect the numbers of runs; where something fails, they are deleted."""
    made: list[str] = []
    try:
        yield made
    except BaseException:
        for run_id in made:
            with suppress(Exception):
                client.delete_run(run_id)
        raise


def _log_run(
    client: "MlflowClient", experiment: str, run: TrackedRun, whole: Tracked, made: list[str], parent: str | None = None
) -> str:
    from mlflow.entities import Metric, Param

    tags = {**run.tags, _NOTE: run.note} | ({} if parent is None else {_PARENT: parent})
    started, ended = _ms(whole.started_unix_s), _ms(whole.ended_unix_s)
    created = client.create_run(experiment, start_time=started, tags=_clean(tags), run_name=run.name)
    run_id = str(created.info.run_id)
    made.append(run_id)
    parameters = [Param(_key(name), value) for name, value in _clean(run.parameters).items()]
    metrics = [Metric(_key(name), value, ended, 0) for name, value in run.metrics.items()]
    for at in range(0, max(len(parameters), 1), _BATCH):
        client.log_batch(run_id, params=parameters[at : at + _BATCH])
    for at in range(0, len(metrics), 5 * _BATCH):
        client.log_batch(run_id, metrics=metrics[at : at + 5 * _BATCH])
    return run_id


def _log_files(client: "MlflowClient", run_id: str, files: Mapping[str, bytes]) -> None:
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder)


def _key(name: str) -> str:
    """A name that MLflow takes; two that differ beyond its length, or by what it does not take, stay two."""
    key = _NOT_A_KEY.sub("_", name)
    if key == name and len(key) <= _LONGEST_KEY:
        return key
    return f"{key[: _LONGEST_KEY - 9]}-{sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _clean(values: Mapping[str, str]) -> dict[str, str]:
    """Values that a database takes, and not longer than MLflow has them."""
    texts = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in values.items()}
    return {n: v if len(v) <= _LONGEST_VALUE else f"{v[: _LONGEST_VALUE - 3]}..." for n, v in texts.items()}


def _ms(seconds: float) -> int:
    return int(1000 * seconds)
