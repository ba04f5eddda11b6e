"""Circuit breakers by name: found, made once, bounded, and told of."""

import logging
import threading

import pytest

from asgi_errorkit import CircuitPolicy, CircuitState, ErrorType
from asgi_errorkit.breakers import Breakers
from asgi_errorkit.testing import HandClock

NOON = 1_640_995_200.0
ONCE = CircuitPolicy(failure_rate_threshold=None, consecutive_failures=1, jitter=0.0)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.DEBUG, logger="asgi_errorkit.breaker")


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def circuits(clock):
    return Breakers(maximum=5, clock=clock, wall_clock=lambda: NOON)


def names(circuits):
    return [breaker.name for breaker in circuits.all()]


def test_a_name_is_one_breaker(circuits):
    """It is made when it is first asked for, with the policy of that time."""
    assert circuits.get("x") is None
    made = circuits.of("x", ONCE)
    assert circuits.of("x") is circuits.of("x", CircuitPolicy()) is circuits.get("x") is made
    assert made.policy is ONCE
    assert circuits.of("y").policy == CircuitPolicy()


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("model:sdxl", ErrorType.MODEL),
        ("cache:redis:0", ErrorType.CACHE),
        ("database", ErrorType.DATABASE),
        ("upscaler", ErrorType.EXTERNAL_SERVICE),
        ("nothing:known", ErrorType.EXTERNAL_SERVICE),
        (":", ErrorType.EXTERNAL_SERVICE),
        ("", ErrorType.EXTERNAL_SERVICE),
        ("MODEL:sdxl", ErrorType.EXTERNAL_SERVICE),
    ],
)
def test_a_name_may_say_the_type(circuits, name, error_type):
    """What stands before the colon is the type of what those are told who are refused."""
    assert circuits.of(name).error_type is error_type
    assert circuits.of(f"{name}!", error_type=ErrorType.MEMORY).error_type is ErrorType.MEMORY


def test_their_number_is_bounded(circuits):
    """The oldest closed one is forgotten, and counted."""
    for number in range(30):
        circuits.of(f"n{number}")
    assert names(circuits) == [f"n{number}" for number in range(25, 30)]
    assert circuits.forgotten == 25


def test_open_ones_are_kept_before_closed_ones(circuits):
    """What is refused now is not let through for that others came."""
    circuits.of("bad", ONCE).record_failure()
    for number in range(30):
        circuits.of(f"n{number}")
    assert "bad" in names(circuits)
    assert circuits.of("bad").is_open


def test_of_open_ones_alone_the_oldest_is_forgotten(circuits):
    """However many fail, memory is bounded."""
    for number in range(30):
        circuits.of(f"n{number}", ONCE).record_failure()
    assert names(circuits) == [f"n{number}" for number in range(25, 30)]


def test_one_that_is_forgotten_goes_on_for_who_holds_it(circuits):
    """Nothing breaks for a call that is under way."""
    held = circuits.of("held", ONCE)
    for number in range(10):
        circuits.of(f"n{number}")
    held.record_failure()
    assert held.is_open
    assert circuits.get("held") is None


@pytest.mark.parametrize("name", [None, 5, b"x", ["x"], ErrorType.MODEL], ids=repr)
def test_a_name_is_text(circuits, name):
    """Anything else raises, and makes nothing."""
    with pytest.raises(TypeError):
        circuits.of(name)
    assert names(circuits) == []


@pytest.mark.parametrize("maximum", [0, -1, 1.5, None, True], ids=repr)
def test_a_maximum_is_a_whole_number(clock, maximum):
    """Of at least one."""
    with pytest.raises((TypeError, ValueError), match="maximum"):
        Breakers(maximum=maximum, clock=clock, wall_clock=clock)


def test_what_is_refused_is_told_by_name(circuits, clock):
    """Since when, for how many errors, at which threshold; closed ones are left out."""
    circuits.of("bad", ONCE).record_failure()
    circuits.of("good")
    circuits.of("forced").force_open()
    assert circuits.open() == {
        "bad": {
            "state": "open",
            "triggered_at": NOON,
            "error_count": 1,
            "threshold": 1,
            "retry_after_seconds": 5.0,
        },
        "forced": {
            "state": "forced_open",
            "triggered_at": NOON,
            "error_count": None,
            "threshold": None,
            "retry_after_seconds": None,
        },
    }
    clock.move(5.0)
    assert list(circuits.open()) == ["forced"]


def test_changes_are_logged(circuits, clock, caplog):
    """Opening is critical, the rest informs; METRICS_ONLY warns of what would have been."""
    would = CircuitPolicy(
        failure_rate_threshold=None,
        consecutive_failures=1,
        initial_state=CircuitState.METRICS_ONLY,
    )
    breaker = circuits.of("bad", ONCE)
    breaker.record_failure()
    clock.move(5.0)
    breaker.record_success(breaker.allow())
    breaker.force_open()
    breaker.reset()
    circuits.of("trial", would).record_failure()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("CRITICAL", "the circuit 'bad' is open now: 1 failures in a row"),
        ("INFO", "the circuit 'bad' is half_open now: its time was up"),
        ("CRITICAL", "the circuit 'bad' is forced_open now: by hand"),
        ("INFO", "the circuit 'bad' is closed now: by hand"),
        ("WARNING", "the circuit 'trial' would have opened: 1 failures in a row"),
    ]
    assert {record.name for record in caplog.records} == {"asgi_errorkit.breaker"}


def test_a_name_forges_no_line(circuits, caplog):
    """It may come from a client: line breaks and escapes are shown, not written."""
    circuits.of("x\r\n\x1b[31mfake", ONCE).record_failure()
    message = caplog.records[0].getMessage()
    assert message.isprintable()


def test_listeners_hear_of_all(circuits):
    """Of breakers that there are and of those to come; a broken one is counted, others hear."""
    heard = []

    def broken(change):
        raise RuntimeError("mine")

    before = circuits.of("before", ONCE)
    circuits.add_listener(broken)
    circuits.add_listener(heard.append)
    before.record_failure()
    circuits.of("after", ONCE).record_failure()
    assert [(c.name, c.was, c.now, c.at) for c in heard] == [
        (name, CircuitState.CLOSED, CircuitState.OPEN, NOON) for name in ("before", "after")
    ]
    assert [b.listener_errors for b in circuits.all()] == [1, 1]
    with pytest.raises(TypeError, match="listener"):
        circuits.add_listener("print")


def test_a_listener_may_do_anything(circuits):
    """Ask, make and forget breakers, within and from another thread: no lock is held."""
    done = []

    def listener(change):
        def work():
            circuits.of(f"from {change.name}")
            circuits.all()
            done.append(change.now)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()

    circuits.add_listener(listener)
    circuits.of("bad", ONCE).record_failure()
    assert done == [CircuitState.OPEN]


def test_no_lock_is_held_when_one_is_forgotten(circuits, clock):
    """Also where looking for one to forget finds that the time of another is up."""
    stuck = []

    def listener(change):
        thread = threading.Thread(target=circuits.all, daemon=True)
        thread.start()
        thread.join(2)
        stuck.append(thread.is_alive())

    for number in range(5):
        circuits.of(f"n{number}", ONCE).record_failure()
    circuits.add_listener(listener)
    clock.move(10.0)
    circuits.of("new")
    circuits.all()[0].state  # noqa: B018  to look is to move it
    assert True not in stuck


def test_many_threads_make_one(clock):
    """Of a crowd that asks for one name each gets the same breaker."""
    circuits = Breakers(maximum=1000, clock=clock, wall_clock=clock)
    start, found = threading.Barrier(8), []

    def ask():
        start.wait()
        found.append([circuits.of(f"n{number}") for number in range(200)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(map(id, each)) for each in found}) == 1
    assert len(circuits.all()) == 200


def test_many_threads_keep_the_bound(clock):
    """Also while others are forgotten and listened to."""
    circuits = Breakers(maximum=10, clock=clock, wall_clock=clock)
    failed = []

    def ask(which):
        try:
            for number in range(200):
                breaker = circuits.of(f"{which}.{number}", ONCE)
                if number % 3 == 0:
                    breaker.record_failure()
                if number % 50 == 0:
                    circuits.add_listener(lambda change: None)
                    circuits.open()
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(circuits.all()) == 10
    assert circuits.forgotten == 4 * 200 - 10
