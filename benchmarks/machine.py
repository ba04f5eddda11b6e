"""Where and with what figures were taken: without it they mean nothing."""

import gc
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["machine"]

_PACKAGES = ("asgi-errorkit", "asgiref", "orjson", "psutil", "starlette")


def machine(command: list[str], *, packages: Iterable[str] = ()) -> dict[str, Any]:
    """The machine, the interpreter, the versions of what took part, and the command.

    ``packages`` are those that took part if they are installed.
    """
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "build": " ".join(platform.python_build()),
            "compiler": platform.python_compiler(),
            "configured_with": _configuration(),
            "compiled_with": sysconfig.get_config_var("OPT"),
            "flags": list(sys.flags),
            "gc_thresholds": gc.get_threshold(),
        },
        "versions": {name: version(name) for name in _PACKAGES} | dict(_installed(packages)),
    }


def _configuration() -> str | None:
    """What makes Python fast or slow; where it lies tells nothing."""
    told: str | None = sysconfig.get_config_var("CONFIG_ARGS")
    return None if told is None else " ".join(re.findall(r"--(?:enable|disable|with)-[\w-]+", told))


def _installed(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
