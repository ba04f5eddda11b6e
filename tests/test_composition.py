"""The order of what survives failures: checked when it is built, whoever builds it."""

from itertools import combinations, permutations

import pytest

from asgi_errorkit import (
    Answer,
    CircuitBreakingMiddleware,
    CircuitPolicy,
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    FallbackMiddleware,
    LoadSheddingMiddleware,
    MiddlewareStack,
    PerformanceMonitoringMiddleware,
    Recorder,
    RetryMiddleware,
    StructuredLoggingMiddleware,
    TimeoutMiddleware,
)
from asgi_errorkit.composition import ORDER, check_order, rank
from asgi_errorkit.testing import LogLines, request

OPTIONS = {
    FallbackMiddleware: {"fallbacks": {"/never": Answer(503, [], b"")}},
    LoadSheddingMiddleware: {"limit": 100},
    TimeoutMiddleware: {"total_seconds": 30.0},
    RetryMiddleware: {},
    CircuitBreakingMiddleware: {},
}
SURVIVAL = tuple(OPTIONS)
DEFAULTS = (
    StructuredLoggingMiddleware,
    ErrorHandlingMiddleware,
    PerformanceMonitoringMiddleware,
)


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


class Foreign:
    """A pure ASGI middleware of somebody else's."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        return await self.app(scope, receive, send)


def tracker():
    return ErrorTracker(recorder=Recorder(flush_seconds=None))


def nested(classes, between=None):
    made = app
    shared = tracker()
    for cls in reversed(classes):
        made = cls(made, error_tracker=shared, **OPTIONS[cls])
        if between is not None:
            made = between(made)
    return made


def stacked(classes, *, before=()):
    stack = MiddlewareStack(error_tracker=tracker())
    for cls in before:
        stack.add_middleware(cls)
    for cls in classes:
        stack.add_middleware(cls, **OPTIONS.get(cls, {}))
    return stack


def quiet(stack):
    stack.middleware_stack.insert(0, (StructuredLoggingMiddleware, {"stream": LogLines()}))
    return stack


def is_in_order(classes):
    ranks = [rank(cls) for cls in classes]
    return ranks == sorted(ranks)


def name(classes):
    return "-".join(cls.__name__.removesuffix("Middleware") for cls in classes)


PAIRS = list(combinations(SURVIVAL, 2))
ALL = [each for n in range(1, 6) for each in permutations(SURVIVAL, n) if n < 4 or n == 5]


def test_the_order_is_the_one_that_is_documented():
    """Fallback, shed, timeout, retry, breaker."""
    assert tuple(cls.__name__ for cls in SURVIVAL) == ORDER
    assert [rank(cls) for cls in SURVIVAL] == [0, 1, 2, 3, 4]


def test_nesting_by_hand_is_checked_when_it_is_built():
    """Of all orders of any of them those that are in order are let, and only those."""
    for classes in ALL:
        if is_in_order(classes):
            assert nested(classes) is not None
        else:
            with pytest.raises(ValueError, match="belongs outside of"):
                nested(classes)


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_what_stands_between_is_looked_through(pair):
    """Middlewares of others between them hide nothing, if they tell what they wrap."""
    assert nested(pair, Foreign) is not None
    with pytest.raises(ValueError, match="belongs outside of"):
        nested(pair[::-1], Foreign)


def test_a_stack_is_checked_when_it_is_built():
    """The same for what is added to a stack."""
    for classes in ALL:
        stack = quiet(stacked(classes))
        if is_in_order(classes):
            kit = stack.create_middleware_stack(app)
            assert [type(layer) for layer in kit.survival] == list(classes)
        else:
            with pytest.raises(ValueError, match="belongs outside of"):
                stack.create_middleware_stack(app)


def test_the_message_says_what_to_do():
    """Which belongs outside of which, and the whole order."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  all of it is looked at
        nested((CircuitBreakingMiddleware, TimeoutMiddleware))
    assert str(caught.value) == (
        "TimeoutMiddleware belongs outside of CircuitBreakingMiddleware: the order is "
        f"{', '.join(ORDER)}, the first outermost"
    )


@pytest.mark.parametrize("cls", SURVIVAL, ids=lambda cls: cls.__name__)
def test_defaults_are_put_around(cls):
    """What is missing of the three stands outside of it, whose decisions it sees."""
    stack = quiet(stacked([Foreign, cls]))
    stack.create_middleware_stack(app)
    assert [each for each, _ in stack.middleware_stack] == [
        StructuredLoggingMiddleware,
        Foreign,
        ErrorHandlingMiddleware,
        PerformanceMonitoringMiddleware,
        cls,
    ]


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("cls", SURVIVAL, ids=lambda cls: cls.__name__)
def test_a_default_within_is_refused(cls, default):
    """It would not see what is decided further out."""
    stack = stacked([cls, default])
    with pytest.raises(ValueError, match=f"{default.__name__} belongs outside of {cls.__name__}"):
        stack.create_middleware_stack(app)


def test_subclasses_have_the_place_of_what_they_are():
    """An application's own subclass is in the order too, whatever its name."""

    class Mine(TimeoutMiddleware):
        pass

    assert rank(Mine) == rank(TimeoutMiddleware)
    with pytest.raises(ValueError, match="belongs outside of"):
        CircuitBreakingMiddleware(Mine(app, total_seconds=1.0))


def test_somebody_elses_class_of_the_same_name_is_nobodys():
    """Only classes of ours have a place."""
    theirs = type("TimeoutMiddleware", (Foreign,), {"__module__": "theirs"})
    lookalike = type("TimeoutMiddleware", (Foreign,), {"__module__": "asgi_errorkit_extras.x"})
    assert (rank(theirs), rank(lookalike), rank(Foreign), rank(ErrorKit)) == (None,) * 4
    assert CircuitBreakingMiddleware(theirs(app)) is not None
    check_order(Foreign(app), TimeoutMiddleware(app, total_seconds=1.0))


def test_an_app_that_leads_to_itself_is_no_matter():
    """A circle of .app attributes is left after a while."""
    circle = Foreign(app)
    circle.app = circle
    check_order(CircuitBreakingMiddleware(app), circle)


def test_two_of_one_kind_may_stand_within_each_other():
    """As a shorter time for some routes within a longer one."""
    made = nested((TimeoutMiddleware, TimeoutMiddleware, CircuitBreakingMiddleware))
    assert made is not None


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_a_kit_between_hides_nothing(pair):
    """What stands in a kit's stack is looked at by what is nested around the kit."""
    outer, inner = pair
    kit = quiet(stacked([inner])).create_middleware_stack(app)
    assert outer(kit, **OPTIONS[outer]) is not None
    kit = quiet(stacked([outer])).create_middleware_stack(app)
    with pytest.raises(ValueError, match="belongs outside of"):
        inner(kit, **OPTIONS[inner])


async def test_all_of_them_together_serve():
    """A request that goes well passes all five untouched."""
    kit = quiet(stacked(SURVIVAL)).create_middleware_stack(app)
    reply = await request(kit)
    assert (reply.status, reply.body, reply.raised) == (200, b"fine", None)
    assert list(kit.status()["survival"]) == list(ORDER)


async def test_they_share_the_stacks_tracker():
    """Breakers, counts and ids are those of the one tracker."""
    kit = quiet(stacked(SURVIVAL)).create_middleware_stack(app)
    breaking = kit.survival[-1]
    assert breaking.circuits is kit.tracker.circuits
    assert all(layer.choices.recorder is kit.tracker.recorder for layer in kit.survival)
    assert all(layer.choices.ids is kit.errors.choices.ids for layer in kit.survival)


async def test_the_status_tells_of_each():
    """Two of one kind are told of both."""
    stack = MiddlewareStack(error_tracker=tracker())
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    for seconds in (30.0, 20.0):
        stack.add_middleware(TimeoutMiddleware, total_seconds=seconds)
    stack.add_middleware(CircuitBreakingMiddleware, policy=CircuitPolicy())
    kit = stack.create_middleware_stack(app)
    assert len(kit.survival) == 3
    assert set(kit.status()["survival"]) >= {"TimeoutMiddleware", "CircuitBreakingMiddleware"}
