"""MLflow: the server or store of MLFLOW_TRACKING_URI, the experiment of MLFLOW_EXPERIMENT_NAME.

The small package mlflow-skinny suffices for a server; a store in a database (sqlite:///FILE) needs
sqlalchemy and alembic, or the whole of mlflow.
"""

import os
import time
from pathlib import Path
from typing import Any

from lm.errors import UserError

PACKAGES = ('mlflow',)


class Mlflow:
    """A run there."""

    def __init__(self, client: Any, run_id: str):
        self._client = client
        self.run_id = run_id

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Adds a point to each curve."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self.run_id, metrics=points)

    def close(self, summary: dict[str, Any] | None) -> None:
        """The summary's plain values become tags; without one the run counts as failed."""
        for name, value in (summary or {}).items():
            if isinstance(value, str | int | float):
                self._client.set_tag(self.run_id, f'summary.{name}', value)
        self._client.set_terminated(self.run_id, 'FAILED' if summary is None else 'FINISHED')


def start(name: str, config: dict[str, Any], workdir: Path, run_id: str | None) -> Mlflow:
    """A new run, or the one of before; what its config says otherwise now becomes a tag.

    Raises:
      UserError: MLFLOW_TRACKING_URI is not set.
    """
    if 'MLFLOW_TRACKING_URI' not in os.environ:
        raise UserError('MLFLOW_TRACKING_URI is not set; give a server or a store')
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    before: dict[str, str] = {}
    if run_id is None:
        experiment = _experiment(client, os.environ.get('MLFLOW_EXPERIMENT_NAME', 'lm'))
        run_id = client.create_run(experiment, run_name=name).info.run_id
    else:
        before = client.get_run(run_id).data.params
        client.update_run(run_id, status='RUNNING')
    now = {path: str(value) for path, value in config.items()}
    new = [Param(path, value) for path, value in now.items() if path not in before]
    client.log_batch(run_id, params=new)
    for path, value in now.items():
        if before.get(path, value) != value:
            client.set_tag(run_id, path, value)
    return Mlflow(client, run_id)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    experiment: str = found.experiment_id if found else client.create_experiment(name)
    return experiment
