"""A pytest plugin for Quart's own suite: whatever its clients call is wrapped."""

from quart.testing.app import TestApp
from quart.testing.connections import TestHTTPConnection, TestWebsocketConnection
from wrapped import Seen, wrap


class _Wrapped(Seen):
    def __init__(self, app):
        super().__init__(app, _wrapped=wrap(app))

    def __call__(self, scope, receive, send):
        return self._wrapped(scope, receive, send)


def _wrapping(init):
    def wrapping(self, app, *args, **kwargs):
        init(self, _Wrapped(app), *args, **kwargs)

    return wrapping


for _caller in (TestApp, TestHTTPConnection, TestWebsocketConnection):
    _caller.__init__ = _wrapping(_caller.__init__)
