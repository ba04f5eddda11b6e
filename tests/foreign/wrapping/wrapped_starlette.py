"""A pytest plugin for the suites of Starlette and FastAPI: all that their clients call is wrapped."""

import httpx
from starlette.testclient import TestClient
from wrapped import wrap

_init = TestClient.__init__
_init_transport = httpx.ASGITransport.__init__


def _client(self, app, *args, **kwargs):
    _init(self, wrap(app), *args, **kwargs)


def _transport(self, app, *args, **kwargs):
    _init_transport(self, wrap(app), *args, **kwargs)


TestClient.__init__ = _client
httpx.ASGITransport.__init__ = _transport
