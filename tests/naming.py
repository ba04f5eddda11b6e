"""Names of cases that are the same in every run: processes that share the tests must agree on them."""

import re

__all__ = ["shown"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def shown(value: object) -> str:
    """The value as it prints, without the address of a function or an object in it."""
    return _ADDRESS.sub("", str(value))
