"""A pytest plugin for Litestar's own suite: whatever its clients call is wrapped.

A client's `app` stays what the test gave it: what calls the app sees another client.
"""

from litestar.testing.client.base import BaseTestClient
from litestar.testing.life_span_handler import LifeSpanHandler
from litestar.testing.transport import TestClientTransport
from wrapped import Seen, wrap

_init = BaseTestClient.__init__


def _client(self, *args, **kwargs):
    _init(self, *args, **kwargs)
    self._wrapped = wrap(self.app)


def _seeing(init):
    def seeing(self, client, *args, **kwargs):
        init(self, Seen(client, app=client._wrapped), *args, **kwargs)

    return seeing


BaseTestClient.__init__ = _client
for _caller in (LifeSpanHandler, TestClientTransport):
    _caller.__init__ = _seeing(_caller.__init__)
