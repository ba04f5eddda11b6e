"""The names that an application's ``key`` function gives to whose limit or circuit a request is."""

from hashlib import sha256

__all__ = ["key_name"]

_LONGEST = 200
_DIGEST = 12
_EMPTY = "(empty)"


def key_name(given: object) -> str:
    """A name as it is kept, shown and logged: the same for the same key, bounded, and printable.

    A key of up to 200 printable characters is its own name; of others, and of those that begin as
    names of ours do, as much as is printable, and a digest that tells them apart. Raises TypeError for what is no string.
    """
    if not isinstance(given, str):
        raise TypeError(
            f"a key must be a string, e.g. a tenant's name, or None; got {given!r:.200}"
        )
    if not given:
        return _EMPTY
    if len(given) <= _LONGEST and given.isprintable() and given[0] != "(":
        return given
    digest = sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    shown = given[: _LONGEST - _DIGEST - 1]
    return f"{''.join(c if c.isprintable() else '?' for c in shown)}~{digest}"
