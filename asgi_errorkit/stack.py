"""The stack of middlewares around one app, and ErrorKit, its one-line face."""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from asgi_errorkit.apps import single_callable
from asgi_errorkit.blocked_after import blocked_after
from asgi_errorkit.choices import Choices, merged
from asgi_errorkit.composition import rank
from asgi_errorkit.errors import ErrorSeverity
from asgi_errorkit.frame import frame
from asgi_errorkit.host_answers import at_once
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.logs import RequestLines
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.options import check_type
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.redact import Redactor
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from asgi_errorkit.alerts import Alerts
    from asgi_errorkit.ops import Ops
    from asgi_errorkit.spool.host import Host
    from asgi_errorkit.spool.telling import Telling
    from asgi_errorkit.watchdog import Watchdog

__all__ = ["ErrorKit", "MiddlewareStack"]

_DEFAULTS: tuple[type[Any], ...] = (
    StructuredLoggingMiddleware,
    ErrorHandlingMiddleware,
    PerformanceMonitoringMiddleware,
)

# What all parts of a stack share, and so none of them can have for itself.
_WHERE_TO_GIVE = {
    "recorder": "ErrorTracker(recorder=...) to MiddlewareStack(error_tracker=...)",
    "request_ids": "it to MiddlewareStack(request_ids=...)",
}


class MiddlewareStack:
    """Collects middlewares, then builds them around an app, the first added outermost.

    What is missing of the three defaults (logging, error handling, performance monitoring) is
    added innermost, in that order, but around what survives failures: that has an order of its
    own (`asgi_errorkit.composition.ORDER`), which is checked. Of the defaults those that stand side
    by side are built as one frame; any pure ASGI middleware class may stand between. Once built, a
    stack does not change.
    """

    def __init__(
        self, *, error_tracker: ErrorTracker | None = None, request_ids: RequestIds | None = None
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        self.error_tracker = error_tracker or ErrorTracker()
        self.middleware_stack: list[tuple[type[Any], dict[str, Any]]] = []
        self._request_ids = request_ids or RequestIds()
        self._built: ErrorKit | None = None

    def add_middleware(self, middleware_class: type[Any], **options: Any) -> None:
        """Add a middleware class with its options, further in than those added before.

        Raises TypeError for what is no class, ValueError for one of ours that is there already or
        is given what the whole stack shares, RuntimeError when the stack has been built.
        """
        if self._built is not None:
            raise RuntimeError(
                "this stack has been built: add middleware before create_middleware_stack(app)"
            )
        if not isinstance(middleware_class, type):
            raise TypeError(
                "middleware_class must be a class that is called with the app, not an instance; "
                f"got {middleware_class!r}"
            )
        if middleware_class in _DEFAULTS and self._has(middleware_class):
            raise ValueError(f"{middleware_class.__name__} has been added already")
        if issubclass(middleware_class, ErrorHandlingMiddleware):
            check_type("error_tracker", options.get("error_tracker"), ErrorTracker)
            self.error_tracker = options.get("error_tracker") or self.error_tracker
        elif middleware_class in _DEFAULTS:
            _check_not_shared(middleware_class, options)
        self.middleware_stack.append((middleware_class, options))

    def create_middleware_stack(self, app: ASGIApp) -> "ErrorKit":
        """Build the stack around the app, once; the app stays reachable as ``.app``."""
        return ErrorKit(app, stack=self)

    def get_error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]:
        """See `ErrorTracker.get_error_stats`."""
        return self.error_tracker.get_error_stats(window_minutes, worker=worker)

    def get_performance_stats(
        self,
        window_minutes: float = 5,
        *,
        worker: int | None = None,
        most_routes: int | None = None,
    ) -> dict[str, Any]:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`; the stack must be built."""
        return self._kit().get_performance_stats(
            window_minutes, worker=worker, most_routes=most_routes
        )

    def status(self) -> dict[str, Any]:
        """See `ErrorKit.status`; the stack must be built."""
        return self._kit().status()

    def flush(self) -> None:
        """See `ErrorKit.flush`; the stack must be built."""
        self._kit().flush()

    def _kit(self) -> "ErrorKit":
        if self._built is None:
            raise RuntimeError(
                "the stack has not been built: call create_middleware_stack(app); "
                "app.add_middleware(ErrorKit, stack=stack) builds it when the app starts"
            )
        return self._built

    def _has(self, middleware_class: type[Any]) -> bool:
        return any(issubclass(cls, middleware_class) for cls, _ in self.middleware_stack)

    def _build(self, kit: "ErrorKit", app: ASGIApp) -> tuple[ASGIApp, list[Any]]:
        """The outermost callable, and the middlewares from the innermost out."""
        if self._built is not None:
            raise RuntimeError("this stack has been built around an app: make one for each app")
        layers = self._layers()
        built: list[Any] = []
        side_by_side: list[Choices] = []
        for cls, options in reversed(layers):
            if cls not in _DEFAULTS and side_by_side:
                app, side_by_side = frame(app, merged(side_by_side)), []
            layer = self._made(cls, app, options)
            built.append(layer)
            if cls in _DEFAULTS:
                side_by_side.append(layer.choices)
            else:
                app = layer
        redacting = (StructuredLoggingMiddleware, PerformanceMonitoringMiddleware)
        redactors = [layer.redactor for layer in built if isinstance(layer, redacting)]
        _share_names([self.error_tracker.redactor, *redactors])
        self.middleware_stack = layers
        self._built = kit
        return frame(app, merged(side_by_side)) if side_by_side else app, built

    def _layers(self) -> list[tuple[type[Any], dict[str, Any]]]:
        """What was added and, around what survives failures, what is missing of the defaults."""
        added = list(self.middleware_stack)
        first = next((n for n, (cls, _) in enumerate(added) if rank(cls) is not None), len(added))
        within = next((cls for cls, _ in added[first:] if issubclass(cls, _DEFAULTS)), None)
        if within is not None:
            raise ValueError(
                f"{within.__name__} belongs outside of {added[first][0].__name__}, whose decisions "
                "it is to see: add it before"
            )
        return [
            *added[:first],
            *((cls, {}) for cls in _DEFAULTS if not self._has(cls)),
            *added[first:],
        ]

    def _made(self, cls: type[Any], app: ASGIApp, options: dict[str, Any]) -> Any:
        shared = self._shared(cls)
        own = {name: o for name, o in options.items() if o is not None or name not in shared}
        layer = cls(app, **{**shared, **own})
        if not callable(layer):
            raise TypeError(
                f"{cls.__name__} must make an ASGI application, a callable that takes (scope, "
                f"receive, send); its instances cannot be called: {layer!r:.100}"
            )
        if isinstance(layer, StructuredLoggingMiddleware):
            layer.lines.lines.judge = self.error_tracker.classifier
        return layer

    def _shared(self, cls: type[Any]) -> dict[str, Any]:
        """What the parts of one stack have in common."""
        if issubclass(cls, ErrorHandlingMiddleware):
            return {
                "error_tracker": self.error_tracker,
                "request_ids": self._request_ids,
                "log_errors": False,  # the logging part does
            }
        if rank(cls) is not None:
            return {"error_tracker": self.error_tracker, "request_ids": self._request_ids}
        if issubclass(cls, _DEFAULTS):
            return {"recorder": self.error_tracker.recorder, "request_ids": self._request_ids}
        return {}


def _name_of(app: ASGIApp) -> str:
    kind: Any = app if hasattr(app, "__qualname__") else type(app)
    return f"{kind.__module__}.{kind.__qualname__}"


def _share_names(redactors: list[Redactor]) -> None:
    """What one part was told of as a secret's name is one in every part."""
    names = [name for redactor in redactors for name in redactor.extra_names]
    for redactor in redactors:
        redactor.add(names)


def _check_not_shared(middleware_class: type[Any], options: dict[str, Any]) -> None:
    for name, where in _WHERE_TO_GIVE.items():
        if options.get(name) is not None:
            raise ValueError(
                f"{name} is shared by the whole stack: not to {middleware_class.__name__}, "
                f"give {where}"
            )


def _telling_log(recorder: Recorder, lines: RequestLines) -> Callable[[dict[str, Any]], None]:
    """Who tells the log of a worker that died, as all else is told: while nobody else writes lines."""
    return lambda crash: recorder.read(lambda: lines.tell_death(crash))


class ErrorKit:
    """Wraps any ASGI app: every error caught, classified, answered, counted and grouped; every
    request logged and measured.

    ``tracker`` is the `ErrorTracker` to count in; ``debug`` answers errors with their traceback
    (never in production); ``log_level`` is the least level logged; ``capture`` says which
    frameworks are asked for the exceptions they answer themselves (see `ErrorHandlingMiddleware`). For the options of the parts
    give a ``stack`` instead: a `MiddlewareStack` with its middlewares added. In ``directory``
    (default: the environment's ASGI_ERRORKIT_DIR, or none) each worker lists its requests, and who
    died is told of: see `asgi_errorkit.spool`; ``host`` is who looks after them, None without a
    directory or where it cannot serve. ``alerts`` tell people (`asgi_errorkit.alerts.Alerts`), ``ops``
    answers operators (`asgi_errorkit.ops.Ops`). Who blocks the event loop for
    ``blocked_after_seconds`` or longer is logged (`asgi_errorkit.watchdog`): None has nobody look,
    nor does a recorder with ``flush_seconds=None``, which starts no thread; the environment's
    ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS, a number or "off", outranks it. The app is ``.app``;
    ``logging``, ``errors`` and ``performance`` are the three parts, ``survival`` has what was added
    to survive failures, the outermost first.
    """

    logging: StructuredLoggingMiddleware
    errors: ErrorHandlingMiddleware
    performance: PerformanceMonitoringMiddleware

    def __init__(
        self,
        app: ASGIApp,
        *,
        stack: MiddlewareStack | None = None,
        tracker: ErrorTracker | None = None,
        debug: bool = False,
        log_level: str = "INFO",
        capture: bool | Collection[str] = True,
        request_ids: RequestIds | None = None,
        directory: str | os.PathLike[str] | None = None,
        alerts: "Alerts | None" = None,
        ops: "Ops | None" = None,
        blocked_after_seconds: float | None = 0.1,
    ) -> None:
        check_type("stack", stack, MiddlewareStack)
        if directory is not None and not isinstance(directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a path, e.g. /run/my-app; got {directory!r:.200}")
        check_type("tracker", tracker, ErrorTracker)
        if isinstance(app, MiddlewareStack):
            raise TypeError(
                "app must be an ASGI application, not a MiddlewareStack: pass it as stack=, "
                "ErrorKit(app, stack=stack)"
            )
        if stack is None:
            stack = MiddlewareStack(error_tracker=tracker, request_ids=request_ids)
            stack.add_middleware(StructuredLoggingMiddleware, log_level=log_level)
            stack.add_middleware(ErrorHandlingMiddleware, debug=debug, capture=capture)
        elif (tracker, request_ids, debug, log_level, capture) != (None, None, False, "INFO", True):
            raise ValueError(
                "with a stack, give error_tracker and request_ids to MiddlewareStack(...), "
                "debug, log_level and capture to its middlewares"
            )
        self.app = app
        self.tracker = stack.error_tracker
        self.host: Host | None = None
        self._telling: Telling | None = None
        self._keep_record(directory)
        self._serve, built = stack._build(self, single_callable(app))  # noqa: SLF001  its other half
        self.survival = [layer for layer in reversed(built) if rank(type(layer)) is not None]
        for layer in built:
            self._name(layer)
        if self.host is not None and self._telling is not None:  # of several kits the first tells
            self.host.on_death(_telling_log(self.tracker.recorder, self.logging.lines))
        self.watchdog = self._watched(blocked_after_seconds)
        self.alerts = alerts
        if alerts is not None:
            self._watch(alerts)
        if ops is not None:
            from asgi_errorkit.ops import Ops  # noqa: PLC0415  only who asks for it pays

            check_type("ops", ops, Ops)
            self._serve = ops.around(self, self._serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        return await self._serve(scope, receive, send)

    def _watched(self, blocked_after_seconds: float | None) -> "Watchdog | None":
        seconds, recorder = blocked_after(blocked_after_seconds), self.tracker.recorder
        if seconds is None or not recorder.may_start_threads:
            return None
        from asgi_errorkit.watchdog import Watchdog, watchdog_of  # noqa: PLC0415  only who looks pays

        known = watchdog_of(recorder)
        if known is not None:  # one looks at the loops of all kits that share a recorder
            return known
        watchdog = Watchdog(recorder, threshold_seconds=seconds, redactor=self.tracker.redactor)
        watchdog.on_block(self.logging.lines.tell_block)
        return watchdog

    def _watch(self, alerts: "Alerts") -> None:
        from asgi_errorkit.alerts import Alerts  # noqa: PLC0415  only who asks for it pays

        check_type("alerts", alerts, Alerts)
        alerts.watch(
            self.tracker,
            self.performance.get_performance_stats,
            host=self.host,
            app=_name_of(self.app),
        )
        self.tracker.recent_alerts = lambda: alerts.recent_alerts

    def _keep_record(self, directory: str | os.PathLike[str] | None) -> None:
        """Before the frames are made, which list their requests only where there is a record."""
        tracker = self.tracker
        is_kept = tracker.recorder.ledger is not None
        chosen = directory or os.environ.get("ASGI_ERRORKIT_DIR")
        if not is_kept and not chosen:
            return
        from asgi_errorkit.spool.asking import Asking  # noqa: PLC0415  only who asks for it pays
        from asgi_errorkit.spool.ledger import Ledger  # noqa: PLC0415
        from asgi_errorkit.spool.record import keep_record, record_of  # noqa: PLC0415
        from asgi_errorkit.spool.telling import Telling  # noqa: PLC0415

        if is_kept or not chosen:
            self.host = record_of(tracker.recorder, directory)
            return
        telling = Telling(
            errors=tracker.windows,
            groups=tracker.latest_groups,
            breakers=tracker.own_breakers,
            process=tracker.recorder.sampled,
            forget=tracker.forget,
        )
        self.host = keep_record(
            tracker.recorder,
            chosen,
            app=_name_of(self.app),
            release=tracker.release,
            redactor=tracker.redactor,
            sources=telling,
            circuits=tracker.circuits,
        )
        ledger = tracker.recorder.ledger
        if self.host is not None and isinstance(ledger, Ledger):
            self._telling = telling
            tracker.host = Asking(self.host, ledger)

    def _name(self, layer: Any) -> None:
        if isinstance(layer, StructuredLoggingMiddleware):
            self.logging = layer
        elif isinstance(layer, ErrorHandlingMiddleware):
            self.errors = layer
        elif isinstance(layer, PerformanceMonitoringMiddleware):
            self.performance = layer
            layer.host = self.tracker.host
            if self._telling is not None:
                self._telling.add_requests(layer.counted)

    def get_error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]:
        """See `ErrorTracker.get_error_stats`."""
        return self.tracker.get_error_stats(window_minutes, worker=worker)

    def get_performance_stats(
        self,
        window_minutes: float = 5,
        *,
        worker: int | None = None,
        most_routes: int | None = None,
    ) -> dict[str, Any]:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`."""
        return self.performance.get_performance_stats(
            window_minutes, worker=worker, most_routes=most_routes
        )

    def status(self) -> dict[str, Any]:
        """Everything at one look: errors, performance, alerts, breakers, and the kit's own losses."""
        with at_once(self.tracker.host):
            return self._status()

    def _status(self) -> dict[str, Any]:
        errors = self.get_error_stats()
        recorder, watchdog = self.tracker.recorder, self.watchdog
        return {
            "error_stats": errors,
            "performance_stats": self.get_performance_stats(),
            "alert_summary": self._alert_summary(errors),
            "circuit_breakers": errors["circuit_breakers"],
            "breakers": self.tracker.breakers(),
            "survival": self._survival(),
            "blocks": [] if watchdog is None else watchdog.blocks(5),
            "blocked_lines": [] if watchdog is None else watchdog.lines(),
            "record": None if self.host is None else self._record_status(self.host),
            "recorder": {
                **recorder.counts(),
                "dropped_log_lines": self.logging.writer.dropped_lines,
                "dropped_groups": self.tracker.dropped_groups,
                "unseen_blocks": 0 if watchdog is None else watchdog.unseen,
                "observer_errors": self.logging.lines.observer_errors
                + self.errors.hook_errors
                + (0 if watchdog is None else watchdog.observer_errors + watchdog.look_errors)
                + (self.host.listener_errors if self.host is not None else 0),
            },
            "timestamp": recorder.wall_clock(),
        }

    def send_alert(
        self, alert_type: str, message: str, severity: str | ErrorSeverity = "high"
    ) -> dict[str, Any]:
        """See `asgi_errorkit.alerts.Alerts.send_alert`. Raises RuntimeError without alerts."""
        if self.alerts is None:
            raise RuntimeError(
                "this kit has no alerts: make it with ErrorKit(app, alerts=Alerts(...))"
            )
        return self.alerts.send_alert(alert_type, message, severity)

    def _alert_summary(self, errors: dict[str, Any]) -> dict[str, Any]:
        if self.alerts is not None:
            return self.alerts.get_alert_summary()
        return {"total_alerts": 0, "recent_alerts": errors["recent_alerts"]}

    def _record_status(self, host: "Host") -> dict[str, Any]:
        """What the record on disk has lost, or could not tell, at this worker."""
        across = self.tracker.circuits.across
        return {
            "directory": str(host.directory.path),
            "unread": host.unread,
            "left_out": 0 if self._telling is None else self._telling.left_out,
            "circuits": None if across is None else across.as_dict(),
        }

    def _survival(self) -> dict[str, Any]:
        """What each part has decided, by its class; a further one of a class has a number."""
        told: dict[str, Any] = {}
        for layer in self.survival:
            name = type(layer).__name__
            number = sum(known.partition(" ")[0] == name for known in told)
            told[f"{name} {number + 1}" if number else name] = layer.as_dict()
        return told

    def flush(self) -> None:
        """Write every log line of what has happened so far."""
        self.tracker.recorder.flush()

    def __getattr__(self, name: str) -> Any:
        app = self.__dict__.get("app")
        raise AttributeError(
            f"ErrorKit has no attribute {name!r}: it wraps your {type(app).__name__}. Set the app up "
            f"before you wrap it (routes, state, middleware), or reach it as .app.{name}"
        )
