"""A pytest plugin for a suite older than the Quart it is run with: names that have changed since."""

import sys
from types import ModuleType

import quart.testing

quart.testing.WebsocketResponse = quart.testing.WebsocketResponseError

_paths = ModuleType("py._path.local")
_paths.LocalPath = object  # named in annotations only
sys.modules["py._path.local"] = _paths
sys.modules["py._path"] = ModuleType("py._path")
