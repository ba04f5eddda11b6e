"""`asgi-errorkit demo`: the demo app under real traffic, and the truth about it."""

import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["demo"]

_NEEDED = ("fastapi", "httpx", "numpy", "PIL", "uvicorn", "websockets")


def demo(arguments: Sequence[str]) -> int:
    """Run the demo; return 0 when everything that was sent was seen."""
    try:
        for name in _NEEDED:
            import_module(name)
        from asgi_errorkit.demo.run import main  # noqa: PLC0415
    except ImportError as missing:
        print(
            f"asgi-errorkit: demo needs {missing.name}: pip install 'asgi-errorkit[demo]'",
            file=sys.stderr,
        )
        return 2
    return main(arguments)
