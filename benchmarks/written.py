"""Figures as a file: to five digits, a scenario or the like on a line."""

import json
from pathlib import Path
from typing import Any

__all__ = ["write"]

_DIGITS = 5


def write(file: Path, results: dict[str, Any]) -> None:
    """Write what a benchmark has found."""
    lines = [f"{json.dumps(key)}: {_text(value)}" for key, value in results.items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(_rounded(value))
    members = [f"  {json.dumps(key)}: {json.dumps(_rounded(item))}" for key, item in value.items()]
    return "{\n" + ",\n".join(members) + "\n}" if members else "{}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
