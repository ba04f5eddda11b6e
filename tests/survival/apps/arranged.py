"""The ways in which an application is wrapped, all behind one port: the header X-Stack chooses.

"bare" is the app as it is. Of each feature there is "lone-<feature>", the middleware alone, without
a stack, and "stack-<feature>", a `MiddlewareStack` with it. "lone-all" and "stack-all" have all five.
The paths below "/~" steer what the application does, past all of it.
"""

from urllib.parse import parse_qs

import acts
import orjson

from asgi_errorkit import (
    Answer,
    CircuitBreakingMiddleware,
    CircuitPolicy,
    ErrorTracker,
    ErrorType,
    FallbackMiddleware,
    LoadSheddingMiddleware,
    MiddlewareStack,
    Recorder,
    RetryBudget,
    RetryMiddleware,
    StaleCopies,
    TimeLimits,
    TimeoutMiddleware,
)

TEXT = (b"content-type", b"text/plain")


async def another_app(scope, receive, send):
    """What stands in: it says what it was asked."""
    said = f"another app: {scope['method']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    await send({"type": "http.response.body", "body": said})


async def called(exchange, failing):
    """An answer that is made when it is needed."""
    return Answer(200, [TEXT], f"for {failing.verdict.info.error_type.value}".encode())


def fallback():
    static = Answer(200, [TEXT], b"something instead")
    return {
        "fallbacks": {
            "/falling/static": static,
            "/falling/called": called,
            "/falling/stale": StaleCopies(),
            "/falling/app": another_app,
            "/falling/streamed": StaleCopies(),
            "/falling/listed": [StaleCopies(), static],
            "/mixed/*": static,
        },
        "on": [ErrorType.EXTERNAL_SERVICE, "timeout", "shed", "circuit_open"],
    }


def shed(max_queue=0):
    return {
        "limit": 100,
        "routes": {"/crowded/*": 1, "/mixed/crowded": 1},
        "max_queue": max_queue,
        "queue_seconds": 100,  # a tenth of it with a full queue is no overload yet
        "never_shed": ["/health", "/crowded/health"],
    }


def timeout():
    brief = TimeLimits(total_seconds=0.15)
    return {
        "total_seconds": 600,
        "routes": {
            "/timing/hang": brief,
            "/timing/sit": brief,
            "/timing/begin": TimeLimits(first_byte_seconds=0.15),
            "/timing/stall": TimeLimits(idle_seconds=0.15),
            "/mixed/hesitate": TimeLimits(total_seconds=0.6),
        },
    }


def retry():
    budget = RetryBudget(ratio=10, floor_per_second=10_000)  # of its own, and never used up
    return {"attempts": 4, "base_seconds": 0.001, "budget": budget}


def breaker():
    def opening(failures, **more):
        return CircuitPolicy(
            failure_rate_threshold=None, consecutive_failures=failures, jitter=0, **more
        )

    return {
        "routes": {
            "/breaking/long": opening(3, open_seconds=60),
            "/breaking/items/{number}": opening(3, open_seconds=60),
            "/ws/breaking": opening(3, open_seconds=60),
            "/breaking/brief": opening(3, open_seconds=0.2, successes_to_close=1),
            "/mixed/down": opening(2, open_seconds=60),
        }
    }


def features():
    """Those of one arrangement with all of them, the outermost first."""
    return {
        "fallback": (FallbackMiddleware, fallback()),
        "queue": (LoadSheddingMiddleware, shed(max_queue=1)),
        "timeout": (TimeoutMiddleware, timeout()),
        "retry": (RetryMiddleware, retry()),
        "breaker": (CircuitBreakingMiddleware, breaker()),
    }


def alone():
    """Those of which each stands for itself."""
    return features() | {"shed": (LoadSheddingMiddleware, shed())}


def nested(app, layers):
    """The middlewares around the app without a stack; with how they stand, and what writes."""
    known = {}
    tracker = tracking()
    for cls, options in reversed(layers):
        app = known[cls.__name__] = cls(app, error_tracker=tracker, **options)

    def status():
        layers = {name: layer.as_dict() for name, layer in known.items()}
        return {"survival": layers, "breakers": tracker.breakers()}

    return app, status, tracker.recorder.flush


def stacked(app, layers):
    """A stack with the middlewares around the app; with how it stands, and what writes its log."""
    stack = MiddlewareStack(error_tracker=tracking())
    for cls, options in layers:
        stack.add_middleware(cls, **options)
    kit = stack.create_middleware_stack(app)
    return kit, kit.status, kit.flush


def tracking():
    """A tracker whose log is written when the test asks for it."""
    return ErrorTracker(recorder=Recorder(flush_seconds=None))


def arranged(make):
    """One ASGI app of all the ways to wrap the apps that ``make()`` makes."""
    wrapped = {"bare": (make(), dict, dict)}
    for way, wrap in (("lone", nested), ("stack", stacked)):
        wrapped[f"{way}-all"] = wrap(make(), list(features().values()))
        for name, layer in alone().items():
            wrapped[f"{way}-{name}"] = wrap(make(), [layer])

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["path"].startswith("/~"):
            await steer(scope, send, wrapped)
        else:
            wanted = dict(scope["headers"])[b"x-stack"].decode()
            await wrapped[wanted][0](scope, receive, send)

    return app


async def live(receive, send):
    for event in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{event}"
        await send({"type": f"lifespan.{event}.complete"})


async def steer(scope, send, wrapped):
    """Do what the path says to what the query names, and tell what is known of it."""
    query = parse_qs(scope["query_string"].decode())
    key, told = query["key"][0], None
    match scope["path"]:
        case "/~break":
            acts.broken.add(key)
        case "/~mend":
            acts.broken.discard(key)
        case "/~let-go":
            acts.let_go.add(key)
        case "/~calls":
            told = acts.calls[key]
        case "/~ended":
            told = acts.ended[key]
        case "/~status":
            told = wrapped[key][1]()
        case "/~flush":
            wrapped[key][2]()
    body = orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS, default=repr)
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
