"""The output folder: one file a finished run, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from steprule.files import remove_stale
from steprule.race.plan import Task
from steprule.race.run import Run
from steprule.report.folder import cannot_write, to_json, write_files

__all__ = ["Store"]


class Store:
    """Finished runs in ``folder/runs``, by the key of their task."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            StepruleError: when the folder cannot be made or written to.
        """
        self.folder = folder
        self._runs = folder / "runs"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            remove_stale(self._runs)
        except OSError as error:
            raise cannot_write(folder, error) from None

    def clear(self) -> None:
        """Remove the runs.

        Raises:
            StepruleError: when one cannot be removed.
        """
        try:
            for path in self._runs.glob("*.json"):
                path.unlink()
        except OSError as error:
            raise cannot_write(self.folder, error) from None

    def get(self, task: Task) -> Run | None:
        """Return the finished run of a task, or None; a file that cannot be read counts as none."""
        try:
            saved = json.loads(self._path(task).read_text(encoding="utf-8"))
            run = Run(**saved["run"])
            # A path without its steps is of an earlier version, and cannot be animated.
            return run if len(run.path) == len(run.path_steps) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, task: Task, run: Run) -> None:
        """Keep a finished run.

        Raises:
            StepruleError: when it cannot be written.
        """
        saved = {"task": {**asdict(task), "hyperparameters": dict(task.hyperparameters)}, "run": asdict(run)}
        write_files(self._runs, {self._path(task).name: to_json(saved)})

    def _path(self, task: Task) -> Path:
        return self._runs / f"{task.key}.json"
