"""What happened in a run: parameters, curves, files and bundles in MLflow, curves in TensorBoard.

MLflow is optional and only ever a second record: where it is missing or fails, one line says so and
training goes on. What a run needs to resume and to be compared stands in its own folder.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from perception.training.board import Board
from policies.runs import figures, flat
from policies.storage import read_json, replace_json
from robot.errors import SteadyhandError

log = logging.getLogger(__name__)

EXPERIMENT = MODEL = "steadyhand"
STORE_VARIABLE = "MLFLOW_TRACKING_URI"
FILE = "tracking.json"
_OFF = "none"
_AT_ONCE = 100  # parameters that MLflow takes in one batch
_LONGEST = 500  # characters of a value


def store_of(run: Path, store: str | None) -> str:
    """The MLflow store of a run, as a URI, or ``none``.

    Args:
        run: the run's folder.
        store: a folder, a URI, or ``none``. When None, what ``MLFLOW_TRACKING_URI`` names, or the
            folder ``mlruns`` beside the run.
    """
    named = store or os.environ.get(STORE_VARIABLE) or str(run.absolute().parent / "mlruns")
    if named == _OFF or "://" in named:
        return named
    return f"sqlite:///{Path(named).absolute() / 'mlflow.db'}"


class Tracking:
    """The record of one run; a context manager. An interrupted run goes on in the same record.

    Args:
        run: the run's folder.
        store: see :func:`store_of`.
    """

    def __init__(self, run: Path, store: str | None = None) -> None:
        self._run = run
        self._boards: dict[str, Board] = {}
        self._client: Any = None
        self._id = ""
        uri = store_of(run, store)
        if uri != _OFF:
            with self._safely():
                self._open(uri)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for board in self._boards.values():
            board.__exit__(kind, error, trace)
        self._boards.clear()
        if error is None:
            self._figures()
        status = "FINISHED" if error is None else "FAILED"
        if isinstance(error, KeyboardInterrupt):
            status = "KILLED"
        self._tell(lambda client: client.set_terminated(self._id, status))

    def parameters(self, config: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """The resolved configuration, nested; and where the run comes from."""

        def send(client: Any) -> None:
            from mlflow.entities import Param, RunTag

            known = set(client.get_run(self._id).data.params)
            params = [
                Param(key, str(value)[:_LONGEST])
                for key, value in flat(config).items()
                if key not in known  # MLflow refuses to change one
            ]
            for first in range(0, len(params), _AT_ONCE):
                client.log_batch(self._id, params=params[first : first + _AT_ONCE])
            client.log_batch(self._id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

        self._tell(send)

    def curves(self, stage: str, step: int, values: Mapping[str, Any], board: bool = True) -> None:
        """One point on each curve of a stage; what is no number is left out.

        Args:
            stage: ``bc``, say; the curves are called ``bc/...``.
            step: of the curves.
            values: by name.
            board: also to TensorBoard, in the stage's folder.
        """
        numbers = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        if board:
            if stage not in self._boards:
                self._boards[stage] = Board(self._run / stage, step)
            self._boards[stage].curves(step, numbers)
        self._log({f"{stage}/{key}": value for key, value in numbers.items()}, step)

    def files(self, folder: str, *files: Path) -> None:
        """Keep files of the run with the record, as far as they are there."""

        def send(client: Any) -> None:
            for file in files:
                if file.is_file():
                    client.log_artifact(self._id, str(file), folder)

        self._tell(send)

    def bundle(self, bundle: Path) -> None:
        """Keep a bundle with the record, and enter it into the registry as a new version."""

        def send(client: Any) -> None:
            from mlflow.exceptions import MlflowException

            manifest = read_json(bundle / "manifest.json")
            client.log_artifacts(self._id, str(bundle), bundle.name)
            try:
                client.create_registered_model(
                    MODEL, description="Bundles: detector, grasp scorer and policy as ONNX files"
                )
            except MlflowException:
                client.get_registered_model(MODEL)  # it is there, or this says what is wrong
            source = f"{client.get_run(self._id).info.artifact_uri}/{bundle.name}"
            tags = {"folder": str(bundle.absolute()), "format": str(manifest.get("version", ""))}
            client.create_model_version(MODEL, source, self._id, tags=tags)

        self._tell(send)

    def _figures(self) -> None:
        found: dict[str, float] = {}
        for name, figure in figures(self._run).items():
            found[f"final/{name}"] = figure.value
            if figure.ci95 is not None:
                found[f"final/{name}.low"], found[f"final/{name}.high"] = figure.ci95
        self._log(found, 0)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        def send(client: Any) -> None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            client.log_batch(self._id, metrics=[Metric(k, v, now, step) for k, v in values.items()])

        if values:
            self._tell(send)

    def _open(self, uri: str) -> None:
        # Before the import: it reports its use to its makers unless told not to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            log.info("mlflow is not installed: the run is recorded in its own folder alone")
            return
        place: str | None = None
        if uri.startswith("sqlite:///"):
            root = Path(uri.removeprefix("sqlite:///")).absolute().parent
            root.mkdir(parents=True, exist_ok=True)
            place = (root / "artifacts").as_uri()
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        client = MlflowClient(uri, uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = (
            client.create_experiment(EXPERIMENT, artifact_location=place)
            if experiment is None
            else experiment.experiment_id
        )
        self._id = self._earlier(uri)
        if self._id:
            try:
                client.update_run(self._id, "RUNNING")
            except MlflowException:  # its record is gone: begin another
                self._id = ""
        if not self._id:
            self._id = client.create_run(number, run_name=self._run.absolute().name).info.run_id
            self._run.mkdir(parents=True, exist_ok=True)
            replace_json(self._run / FILE, {"store": uri, "run_id": self._id})
        self._client = client

    def _earlier(self, uri: str) -> str:
        """The record's id where this run was tracked in this store before, or nothing."""
        try:
            kept = read_json(self._run / FILE)
        except SteadyhandError:
            return ""
        return str(kept["run_id"]) if kept.get("store") == uri else ""

    def _tell(self, send: Callable[[Any], Any]) -> None:
        if self._client is not None:
            with self._safely():
                send(self._client)

    @contextmanager
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a store fails with, training goes on
            log.warning("tracking stops here: %s", " ".join(str(error).split())[:300])
            self._client = None
