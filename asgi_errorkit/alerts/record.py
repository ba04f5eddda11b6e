"""What is kept of alerts in the directory of a host, for who takes over and for who asks."""

import os
from collections.abc import Container, Sequence
from typing import Any

import orjson

from asgi_errorkit.spool.directory import SpoolDirectory, SpoolError
from asgi_errorkit.spool.owner import this_process

__all__ = ["AlertRecord", "RecordError"]

RecordError = SpoolError
"""What every method here raises where the directory cannot serve."""

_STATE = "alerts.ek"
_NOTE = "alertnote-"
_MOST_NOTES = 200


class AlertRecord:
    """The file of the worker that alerts, and notes of the others to it."""

    def __init__(self, directory: SpoolDirectory) -> None:
        self._directory = directory

    def load(self) -> dict[str, Any] | None:
        """What was saved last, or None. Raises ValueError for what makes no sense."""
        try:
            told = orjson.loads(self._directory.read(_STATE))
        except FileNotFoundError:
            return None
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004  it is the file that is wrong
        return told

    def save(self, state: dict[str, Any]) -> None:
        """Keep this in the place of what was kept."""
        self._directory.write(_STATE, orjson.dumps(state))

    def tell(self, notes: Sequence[dict[str, Any]]) -> bool:
        """Leave notes for who alerts; False where nobody takes any, and there is no more room."""
        if len(self._names()) >= _MOST_NOTES:
            return False
        name = f"{_NOTE}{this_process().key}-{os.urandom(4).hex()}.ek"
        self._directory.write(name, orjson.dumps(list(notes)))
        return True

    def heard(self, heeded: Container[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """The notes that were left, but for those ``heeded``, and the names of their files."""
        names = [name for name in self._names() if name not in heeded]
        return [note for name in names for note in self._read(name)], names

    def forget(self, names: Sequence[str]) -> None:
        """The notes in these have been heeded, and kept."""
        for name in names:
            self._directory.remove(name)

    def _names(self) -> list[str]:
        return [name for name in self._directory.names() if name.startswith(_NOTE)]

    def _read(self, name: str) -> list[dict[str, Any]]:
        try:
            told = orjson.loads(self._directory.read(name))
        except (FileNotFoundError, ValueError):
            return []
        return [note for note in told if isinstance(note, dict)] if isinstance(told, list) else []
