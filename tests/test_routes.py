"""Labels are few, whatever clients ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.exchange import ROUTE, STATUS, Record, begin
from asgi_errorkit.redact import Redactor
from asgi_errorkit.routes import RouteLabels
from asgi_errorkit.testing import HandClock, http_scope


def record(
    path: str = "/", method: str = "GET", route: str | None = None, status: int = 200
) -> Record:
    state = begin(http_scope(method, path), {}, "a", HandClock(), 0.0)
    state[ROUTE], state[STATUS] = route, status
    return tuple(state)


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (record("/videos/7", route="/videos/{id}"), "GET /videos/{id}"),
        (record("/videos/7"), "GET /videos/{...}"),
        (record("/health"), "GET /health"),
        (record("/v1/a/550e8400-e29b-41d4-a716-446655440000/b"), "GET /{...}/a/{...}/b"),
        (record("/nowhere", status=404), "(unmatched)"),
        (record("/nowhere", status=405), "(unmatched)"),
        (record("/x", "BREW", route="/x"), "(other) /x"),
        (record("/x" * 500), f"GET {'/x' * 64}"),
    ],
)
def test_a_label_is_the_method_and_the_route(given: Record, label: str) -> None:
    labels = RouteLabels(Redactor())
    assert labels(given) == label
    assert labels(given) == label


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/x;token=SuperSecret", "GET /x;token=[redacted]"),
        ("/reset/password=SuperSecret", "GET /reset/password=[redacted]"),
        ("/go/postgres://u:SuperSecret@h/d", "GET /go/postgres://[redacted]@h/d"),
        ("/to/ghp_SuperSecretSuperSecretSuperSecret", "GET /to/[redacted]"),
        ("/x;colour=SuperSecret", "GET /x;colour=[redacted]"),
        (f"{'/x' * 60}/token=SuperSecret", f"GET {'/x' * 60}/token=["),
    ],
)
def test_a_path_in_a_label_holds_no_secret(path: str, label: str) -> None:
    labels = RouteLabels(Redactor(extra_names=["colour"]))
    assert labels(record(path)) == label


def test_beyond_the_maximum_the_rest_shares_one_label_and_is_counted() -> None:
    labels = RouteLabels(Redactor(), 3)
    made = {labels(record(route=f"/{n}")) for n in range(10)}
    assert made == {"GET /0", "GET /1", "GET /2", "(other)"}
    assert labels.folded == 7


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=8)), max_size=200))
def test_nothing_that_clients_send_makes_more_labels(asked: list[tuple[str, str]]) -> None:
    labels = RouteLabels(Redactor(), 5)
    assert len({labels(record(f"/{path}", method)) for path, method in asked}) <= 7


def test_the_memory_for_paths_is_bounded() -> None:
    labels = RouteLabels(Redactor(), 5)
    for n in range(5000):
        labels(record(f"/{n}/{'x' * 3000}"))
    assert len(labels._paths) <= 1024


def test_a_maximum_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="maximum must be at least 1"):
        RouteLabels(Redactor(), 0)
