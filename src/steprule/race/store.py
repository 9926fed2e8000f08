"""The output folder: one file a finished run, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steprule.files import remove_stale
from steprule.race.plan import Task
from steprule.race.run import Run
from steprule.report.folder import cannot_write, to_json, write_files

__all__ = ["Kept", "Store"]


class Kept:
    """Results in ``folder/name``, by their keys: a JSON file each."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make the folder.

        Raises:
            StepruleError: when the folder cannot be made or written to.
        """
        self.folder = folder
        self._place = folder / name
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            remove_stale(self._place)
        except OSError as error:
            raise cannot_write(folder, error) from None

    def clear(self) -> None:
        """Remove the results.

        Raises:
            StepruleError: when one cannot be removed.
        """
        try:
            for path in self._place.glob("*.json"):
                path.unlink()
        except OSError as error:
            raise cannot_write(self.folder, error) from None

    def read(self, key: str) -> Any:
        """Return what was written; None where there is nothing that can be read."""
        try:
            return json.loads((self._place / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, key: str, value: Any) -> None:
        """Keep what JSON can hold.

        Raises:
            StepruleError: when it cannot be written.
        """
        write_files(self._place, {f"{key}.json": to_json(value)})


class Store(Kept):
    """Finished runs in ``folder/runs``, by the key of their task."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            StepruleError: when the folder cannot be made or written to.
        """
        super().__init__(folder, "runs")

    def get(self, task: Task) -> Run | None:
        """Return the finished run of a task, or None; a file that cannot be read counts as none."""
        try:
            run = Run(**self.read(task.key)["run"])
            # A path without its steps is of an earlier version, and cannot be animated.
            return run if len(run.path) == len(run.path_steps) else None
        except (KeyError, TypeError):
            return None

    def put(self, task: Task, run: Run) -> None:
        """Keep a finished run.

        Raises:
            StepruleError: when it cannot be written.
        """
        told = {**asdict(task), "hyperparameters": dict(task.hyperparameters)}
        self.write(task.key, {"task": told, "run": asdict(run)})
