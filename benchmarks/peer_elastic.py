"""Elastic APM, loaded only where it is installed; what it would send is thrown away."""

from contextlib import ExitStack
from typing import IO, Any

from elasticapm import Client
from elasticapm.contrib.asgi import ASGITracingMiddleware
from elasticapm.transport.base import Transport

from benchmarks.peer import Peer
from benchmarks.scenarios import Scenario

__all__ = ["Nowhere", "elastic"]


class Nowhere(Transport):
    """The agent's own queue, thread, JSON and gzip, and nothing behind them."""

    def __init__(self, url: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)

    def send(self, data: Any, forced_flush: bool = False) -> None:
        """It has been packed, and goes no further."""


def elastic(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    """Every request a transaction, every error with its variables, as by default."""
    client = Client(
        service_name="benchmark",
        transport_class=f"{__name__}.Nowhere",
        # Nothing is asked of a server, and nothing patched for the whole process.
        central_config=False,
        cloud_provider="none",
        instrument=False,
        disable_log_record_factory=True,
        metrics_interval="0ms",
    )
    closing.callback(client.close)
    transport = client._transport
    kind = "error" if scenario.raises else "transaction"
    return Peer(
        app=ASGITracingMiddleware(scenario.app),
        flush=transport.flush,
        done=(lambda: int(transport._counts[kind]),),
    )
