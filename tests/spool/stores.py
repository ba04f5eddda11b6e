"""What a segment stores, for tests that put something in the place of its memory."""

from typing import Any

from asgi_errorkit.spool import segment as segment_module

_PACK = segment_module._PUT.__self__.pack  # type: ignore[attr-defined]


def put(view: Any, at: int, *values: Any) -> None:
    """As `struct.Struct.pack_into`, which takes nothing but true memory."""
    content = _PACK(*values)
    view[at : at + len(content)] = content
