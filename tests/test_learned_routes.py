"""A guess is the label that the framework will tell, or there is none."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.exchange import ROUTE, STATUS, begin
from asgi_errorkit.learned_routes import LearnedRoutes
from asgi_errorkit.redact import Redactor
from asgi_errorkit.routes import RouteLabels
from asgi_errorkit.testing import HandClock, http_scope

UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize("maximum", [0, -1, 1.5, True, None])
def test_a_maximum_that_is_no_whole_number_above_zero_is_refused(maximum: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="maximum must be a whole number"):
        LearnedRoutes(maximum=maximum)


def test_a_redactor_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="redactor must be a Redactor"):
        LearnedRoutes(redactor="x")  # type: ignore[arg-type]


def test_nothing_is_guessed_before_anything_is_learned() -> None:
    assert LearnedRoutes().guess("GET", "/videos/7") is None


@pytest.mark.parametrize("odd", [None, 7, b"/a", ["/a"], {}])
def test_what_is_no_text_is_never_guessed_and_never_raises(odd: Any) -> None:
    routes = LearnedRoutes()
    assert routes.learn("GET", odd, "/a") is None
    assert routes.learn(odd, "/a", "/a") is None
    assert routes.guess("GET", odd) is None
    assert routes.guess(odd, "/a") is None
    assert routes.learn("GET", "/b", odd and 7) == "GET /b"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "learned", "fits", "fits_not"),
    [
        ("/v/{id}", "/v/1", ["/v/a", "/v/a b"], ["/v/", "/v/1/", "/v/1/2", "/v", "/w/1"]),
        ("/v/{id:int}", "/v/1", ["/v/22", "/v/-3"], ["/v/a", "/v/1a", "/v/"]),
        ("/v/<id>", "/v/1", ["/v/a"], ["/v/1/2"]),
        ("/v/<int:id>", "/v/1", ["/v/22"], ["/v/a"]),
        ("/v/<id:int>", "/v/1", ["/v/22"], ["/v/a"]),
        ("/v/{name:int(3)}", "/v/100", ["/v/222"], ["/v/a"]),
        ("/v/<int(min=1):id>", "/v/1", ["/v/22"], ["/v/a"]),
        ("/v/<any(a,b):x>", "/v/a", ["/v/b"], ["/v/a/b"]),
        ("/v/{x:uuid}", f"/v/{UUID}", [f"/v/{UUID.upper()}"], ["/v/1", f"/v/{UUID}0"]),
        ("/v/{x:float}", "/v/1.5", ["/v/2", "/v/-.5"], ["/v/x", "/v/."]),
        ("/f/{p:path}", "/f/a", ["/f/a/b.c", "/f/"], ["/f", "/g/a"]),
        ("/f/<path:p>", "/f/a", ["/f/a/b/c"], ["/g"]),
        ("/f/<path:path>", "/f/a", ["/f/a/b/c"], ["/g"]),
        ("/f/{p:path}/meta", "/f/a/meta", ["/f/a/b/meta"], ["/f/a/b"]),
        ("/{a}.json", "/x.json", ["/y.json"], ["/y.xml", "/.json", "/a/b.json"]),
        ("/{a}x{b}", "/1x2", ["/3x4"], ["/x", "/34"]),
        ("/{a}x{b}/{c}", "/1x2/3", ["/3x4/xx"], ["/34/5"]),
        ("/{a}{b}", "/12", ["/345"], ["/3"]),
        ("videos/<int:id>/", "/videos/1/", ["/videos/2/"], ["/videos/2", "/videos/a/"]),
        ("^health/$", "/health/", ["/health/"], ["/health"]),
        ("/^health/$", "/health/", ["/health/"], ["/health"]),
        ("/odata/$metadata", "/odata/$metadata", ["/odata/$metadata"], ["/odata/"]),
        ("/a+b(c)", "/a+b(c)", ["/a+b(c)"], ["/aab(c)"]),
        ("/api/v/{id}", "/v/1", ["/v/2"], ["/api/v/2", "/2"]),  # without the prefix of a mount
        ("/static/{path}", "/static/a/b.css", ["/static/c/d"], ["/x"]),  # what a mount tells
    ],
)
def test_every_framework_s_templates_are_guessed(
    template: str, learned: str, fits: list[str], fits_not: list[str]
) -> None:
    routes = LearnedRoutes()
    label = f"GET {template}"
    assert routes.learn("GET", learned, template) == label
    assert {routes.guess("GET", path) for path in [learned, *fits]} == {label}
    assert {routes.guess("GET", path) for path in fits_not} == {None}
    assert routes.guess("POST", learned) is None
    assert routes.learn("GET", learned, template) == label


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("^videos/(?P<id>[0-9]+)/$", "/videos/7/"),
        ("/^videos/(?P<id>[0-9]+)/$", "/videos/7/"),
        ("/api/^(a+)+$", "/api/aa"),
        (r"/v/\d+", "/v/1"),
        ("/v/<id:[0-9]{2}>", "/v/12"),
        ("/v/{id", "/v/1"),
        ("/v/<uuid:int>", "/v/1"),  # either may be the converter
        ("/v/{a}x{b}x{c}", "/v/1x2x3"),
        ("/v/{a:path}/{b:path}", "/v/1/2"),
        ("/v/a{b:path}", "/v/a1/2"),
        ("/v/{}", "/v/1"),
        ("/v/{id}", "/w/x/7"),  # told of another path
        ("/" + "x" * 600 + "{id}", "/x"),
    ],
)
def test_what_is_not_understood_is_never_guessed(template: str, path: str) -> None:
    routes = LearnedRoutes()
    label = routes.learn("GET", path, template)
    assert label is not None
    assert label.startswith("GET ")
    assert routes.guess("GET", path) is None
    assert routes.learn("GET", path, template) == label


def test_a_template_that_was_told_of_another_path_first_is_learned_later() -> None:
    routes = LearnedRoutes()
    routes.learn("GET", "/w/x/7", "/v/{id}")
    routes.learn("GET", "/v/7", "/v/{id}")
    assert routes.guess("GET", "/v/8") == "GET /v/{id}"


@pytest.mark.parametrize(
    ("templates", "path", "guessed"),
    [
        (["/v/{id}", "/v/new"], "/v/new", "/v/new"),
        (["/v/{id}", "/v/{id:int}"], "/v/7", "/v/{id:int}"),
        (["/v/{id}", "/v/{id:int}"], "/v/x", "/v/{id}"),
        (["/v/{id}", "/v/{id}.json"], "/v/a.json", "/v/{id}.json"),
        (["/{a}/b/c", "/a/{x}/{y}"], "/a/b/c", "/{a}/b/c"),
        (["/v/{p:path}", "/v/{id}"], "/v/7", "/v/{id}"),
        (["/{a}/{b}", "/v/{p:path}"], "/v/7", "/v/{p:path}"),
        (["/v/{id}", "/v/{name}"], "/v/7", None),
    ],
)
def test_more_literal_goes_before_less_and_of_two_alike_neither(
    templates: list[str], path: str, guessed: str | None
) -> None:
    for order in (templates, templates[::-1]):
        routes = LearnedRoutes()
        for template in order:
            assert routes.learn("GET", _path(template), template) == f"GET {template}"
        assert routes.guess("GET", path) == (guessed and f"GET {guessed}")
        assert routes.learn("GET", path, order[0]) == f"GET {order[0]}"


def _path(template: str) -> str:
    for name in ("{id:int}", "{id}", "{name}", "{a}", "{b}", "{x}", "{y}", "{p:path}"):
        template = template.replace(name, "7")
    return template


def test_an_operation_is_guessed_by_its_path_until_another_shares_it() -> None:
    routes = LearnedRoutes()
    assert routes.learn("POST", "/v1/graphql", "mutation render") == "POST mutation render"
    assert routes.guess("POST", "/v1/graphql") == "POST mutation render"
    assert routes.learn("POST", "/v1/graphql", "query Videos") == "POST query Videos"
    assert routes.guess("POST", "/v1/graphql") is None
    assert routes.learn("POST", "/v1/graphql", "mutation render") == "POST mutation render"
    assert routes.guess("POST", "/v1/graphql") is None


@pytest.mark.parametrize("template", ["/graphql", "/{name}"])
def test_a_path_with_operations_is_not_guessed_by_its_template_either(template: str) -> None:
    for told in (template, "mutation render"), ("mutation render", template, "mutation render"):
        routes = LearnedRoutes()
        for each in told:
            assert routes.learn("POST", "/graphql", each) == f"POST {each}"
        assert routes.guess("POST", "/graphql") is None
        assert routes.learn("POST", "/graphql", template) == f"POST {template}"
        assert routes.guess("POST", "/graphql") is None


def test_two_routes_of_one_path_as_of_two_hosts_are_not_guessed() -> None:
    routes = LearnedRoutes()
    routes.learn("GET", "/v", "/api/v")
    routes.learn("GET", "/v", "/v")
    assert routes.guess("GET", "/v") is None
    assert routes.learn("GET", "/v", "/v") == "GET /v"
    assert routes.learn("GET", "/v", "query A") == "GET query A"
    assert routes.guess("GET", "/v") is None


@given(st.sampled_from(["GET", "POST", "BREW"]), st.text("/ab1.;é", max_size=200))
def test_without_templates_the_guess_is_what_was_learned_and_as_the_labels_are(
    method: str, path: str
) -> None:
    routes = LearnedRoutes()
    label = routes.learn(method, path, None)
    assert label == routes.label(method, path)
    assert routes.guess(method, path) == label
    record = begin(http_scope(method, path), {}, "a", HandClock(), 0.0)
    record[ROUTE], record[STATUS] = None, 200
    assert RouteLabels(Redactor())(record) == label


def test_without_templates_one_id_stands_for_the_others() -> None:
    routes = LearnedRoutes()
    routes.learn("GET", "/v/1", None)
    assert routes.guess("GET", "/v/2") == "GET /v/{...}"
    assert routes.learn("GET", "/v/3", None) == "GET /v/{...}"
    assert routes.guess("GET", "/v/x") is None


def test_what_is_answered_before_the_framework_counts_for_the_route_that_is_guessed() -> None:
    routes = LearnedRoutes()
    assert routes.learn("GET", "/v/1", None) == "GET /v/{...}"
    routes.learn("GET", "/v/1", "/v/{id}")
    assert routes.learn("GET", "/v/2", None) == "GET /v/{id}"


def test_what_nothing_matched_is_not_learned() -> None:
    routes = LearnedRoutes()
    assert routes.learn("GET", "/nowhere", "(unmatched)") is None
    assert routes.guess("GET", "/nowhere") is None


def test_methods_that_clients_make_up_are_one() -> None:
    routes = LearnedRoutes()
    assert routes.learn("BREW", "/v/1", "/v/{id}") == "(other) /v/{id}"
    assert routes.guess("STEW", "/v/2") == "(other) /v/{id}"


@pytest.mark.parametrize("template", ["/t{}/{{id}}", "/t{}", "(?{})", "query Q{}", None])
def test_beyond_the_maximum_nothing_is_learned_and_it_is_counted(template: str | None) -> None:
    routes = LearnedRoutes(maximum=3)
    labels = [
        routes.learn("GET", f"/t{n}/{n}" if template and "id" in template else f"/t{n}", told)
        if template
        else routes.learn("GET", f"/{'abcdefghij'[n]}", None)
        for n, told in enumerate(template.format(n) if template else None for n in range(10))
    ]
    assert [label is None for label in labels] == [False] * 3 + [True] * 7
    assert routes.refused == 7


def test_paths_that_clients_make_up_do_not_take_the_place_of_templates() -> None:
    routes = LearnedRoutes(maximum=3)
    for letter in "abcdefgh":
        routes.learn("GET", f"/{letter}", None)
    routes.learn("GET", "/v/1", "/v/{id}")
    assert routes.guess("GET", "/v/2") == "GET /v/{id}"


def test_memory_is_bounded_whatever_clients_ask() -> None:
    routes = LearnedRoutes()
    for n in range(3000):
        routes.learn("GET", f"/v/{n}", "/v/{id}")
        routes.learn(f"M{n}", f"/{n}/{'x' * 600}", f"/{n}/{{x}}")
        routes.learn("GET", f"/{'x' * 600}{n}", None)
        routes.guess(f"M{n}", f"/w/{n}")
    known = routes._known
    assert known.learned.told == 1
    assert not known.learned.folds
    assert len(known.guesses) <= 1024


def test_a_long_path_is_never_guessed_but_its_label_is_known() -> None:
    routes = LearnedRoutes()
    path = f"/f/{'x' * 600}"
    assert routes.learn("GET", path, "/f/{p:path}") is None
    routes.learn("GET", "/f/x", "/f/{p:path}")
    assert routes.learn("GET", path, "/f/{p:path}") == "GET /f/{p:path}"
    assert routes.guess("GET", path) is None


@pytest.mark.parametrize("hostile", ["x" * 500, "x" * 499 + "y", "1x" * 250, "/".join("x" * 250)])
@pytest.mark.timeout(10)
def test_hostile_paths_take_no_time(hostile: str) -> None:
    routes = LearnedRoutes()
    routes.learn("GET", "/1x2y", "/{a}x{b}y")
    routes.learn("GET", "/1x2/1x2/z", "/{a}x{b}/{c}x{d}/z")
    routes.learn("GET", "/x/1/x/z", "/{p:path}/x/z")
    for n in range(100):
        routes.guess("GET", f"/{hostile}{n % 10}")


def test_many_threads_learn_without_losing_any() -> None:
    routes = LearnedRoutes()

    def work(start: int) -> None:
        for n in range(start, start + 20):
            routes.learn("GET", f"/r{n}/x", f"/r{n}/{{id}}")

    threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(160):
        assert routes.guess("GET", f"/r{n}/y") == f"GET /r{n}/{{id}}"


SEGMENTS = st.lists(st.sampled_from(["a", "b", "{x}", "{n:int}"]), min_size=1, max_size=4)
VALUES = {"{x}": ["a", "b", "q", "7"], "{n:int}": ["7", "12"]}


def fits(template: tuple[str, ...], path: list[str]) -> bool:
    return len(template) == len(path) and all(
        segment == "{x}" or piece in VALUES.get(segment, [segment])
        for segment, piece in zip(template, path, strict=True)
    )


def literals(template: tuple[str, ...]) -> int:
    return sum(segment not in VALUES for segment in template)


@given(st.lists(SEGMENTS.map(tuple), min_size=1, max_size=6, unique=True), st.data())
def test_a_guess_fits_and_nothing_more_literal_that_is_known_does(
    templates: list[tuple[str, ...]], data: st.DataObject
) -> None:
    """Checked by a matcher that compares segment by segment."""
    routes = LearnedRoutes()
    for template in templates:
        path = [VALUES.get(segment, [segment])[-1] for segment in template]
        routes.learn("GET", "/" + "/".join(path), "/" + "/".join(template))
    chosen = data.draw(st.sampled_from(templates))
    asked = [data.draw(st.sampled_from(VALUES.get(each, [each]))) for each in chosen]
    guess = routes.guess("GET", "/" + "/".join(asked))
    fitting = [each for each in templates if fits(each, asked)]
    most = max(map(literals, fitting))
    best = [each for each in fitting if literals(each) == most]
    if guess is None:
        assert len(best) > 1
    else:
        assert guess in ["GET /" + "/".join(each) for each in best]


@given(st.text("/{}<>:()^$\\?a1. *+[]", max_size=30), st.text("/a1.{}", max_size=30))
def test_no_template_makes_it_raise_and_a_guess_is_what_was_told(template: str, path: str) -> None:
    routes = LearnedRoutes()
    label = routes.learn("GET", path, template)
    assert routes.guess("GET", path) in (None, label)
