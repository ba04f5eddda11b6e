"""`errors` tells of the groups of errors of all workers, and the whole of one, whoever wrote it."""

import asyncio
import contextlib
import io
import os
import re
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit import ErrorKit
from asgi_errorkit.cli import main
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.testing import request
from tests.test_cli_record import ANY, EVIL_JSON, NESTED, ODD, PRINTABLE, document, ran

GROUP_KEYS = {
    "fingerprint",
    "error_type",
    "type_name",
    "message",
    "where",
    "first_seen",
    "last_seen",
    "release",
    "count",
    "routes",
    "latest",
    "sample",
}
LATEST_KEYS = {"at", "request_id", "route", "status_code", "outcome", "pid"}
SAMPLE_KEYS = {
    "at",
    "release",
    "request_id",
    "trace_id",
    "method",
    "path",
    "query",
    "status_code",
    "headers",
    "exception",
    "context",
}
LINK_KEYS = {"type", "message", "relation", "frames", "frames_left_out"}
FRAME_KEYS = {"file", "line", "function", "in_app", "source"}


async def app(scope, receive, send):
    if scope["path"] == "/odd":
        raise ValueError("odd\x1b[31m")
    if scope["path"].startswith("/boom"):
        try:
            {}["seed"]
        except KeyError:
            raise ConnectionError("the encoder is gone: token=hidden") from None
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(autouse=True)
def _no_directory_around(monkeypatch):
    monkeypatch.delenv("ASGI_ERRORKIT_DIR", raising=False)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


def serve(directory, *paths):
    """A worker that has answered them in their order, and has gone."""
    kit = ErrorKit(app, directory=directory)
    for path in paths:
        asyncio.run(request(kit, path=path, query=b"token=hidden&page=2"))
    kit.flush()
    kit.tracker.recorder.ledger.close()
    kit.tracker.recorder.close()


def keep_groups(directory, groups):
    """As the totals of those that have gone would have them."""
    write_totals(directory, orjson.dumps({"groups": groups}))


def write_totals(directory, body):
    with contextlib.closing(SpoolDirectory.open(directory)) as opened:
        opened.write("totals.ek", body)


def group(fingerprint="abc1", **more):
    now = time.time()
    return {"fingerprint": fingerprint, "count": 1, "first_seen": now, "last_seen": now, **more}


# All of them


def test_the_groups_of_all_workers_are_told_the_last_seen_first(capsys, directory):
    """Those of a worker that has gone, and of one that runs."""
    serve(directory, "/boom", "/boom", "/odd")
    serve(directory, "/odd", "/boom")
    capsys.readouterr()  # their log
    told = document(capsys, "errors", directory)["groups"]
    assert [(each["type_name"], each["count"]) for each in told] == [
        ("ConnectionError", 3),
        ("ValueError", 2),
    ]
    assert all(set(each) == GROUP_KEYS for each in told)
    code, out, said = ran(capsys, "errors", directory)
    assert (code, said) == (0, "")
    header, first, second = out.splitlines()
    cells = ["id", "last seen", "times", "type", "exception", "where", "message", "routes"]
    assert re.split(r" {2,}", header.strip()) == cells
    shown = re.split(r" {2,}", first.strip())
    assert shown[0] == told[0]["fingerprint"]
    assert re.fullmatch(r"\d+\.\d s ago", shown[1])
    assert shown[2:5] == ["3", "external_service", "ConnectionError"]
    assert shown[6:] == ["the encoder is gone: token=[redacted]", "GET /boom (3)"]
    assert r"odd\x1b[31m" in second and "hidden" not in out


def test_what_was_seen_before_the_last_minutes_is_left_out(capsys, directory):
    now = time.time()
    keep_groups(directory, [group("aa", last_seen=now - 300), group("bb", last_seen=now - 30)])
    assert [g["fingerprint"] for g in document(capsys, "errors", directory)["groups"]] == [
        "bb",
        "aa",
    ]
    code, out, _ = ran(capsys, "errors", directory, "--minutes", "1")
    assert code == 0 and "bb" in out and "aa" not in out
    nothing = ran(capsys, "errors", directory, "--minutes", "0.1")
    assert nothing == (0, "no error has been seen within the last 0.1 minutes\n", "")
    code, _, said = ran(capsys, "errors", directory, "aa", "--minutes", "1")
    assert code == 2 and "seen within the last 1 minutes" in said and "there is 1" in said


def test_more_groups_than_a_screen_has_room_for_are_counted(capsys, directory):
    """JSON has them all; of the routes of one the most frequent are shown."""
    routes = {"GET /a": 1, "GET /b": 5, "GET /c": 3}
    keep_groups(directory, [group(f"{n:04x}", routes=routes) for n in range(60)])
    out = ran(capsys, "errors", directory)[1]
    assert out.endswith("\nand 10 groups more\n")
    assert "GET /b (5), GET /c (3) and 1 more" in out
    assert len(document(capsys, "errors", directory)["groups"]) == 60


# The whole of one


def test_one_group_is_told_with_its_traceback_and_request(capsys, directory):
    """By its id or the beginning of it: what a person needs to find the line."""
    serve(directory, "/boom", "/odd")
    capsys.readouterr()
    (known,) = (
        each
        for each in document(capsys, "errors", directory)["groups"]
        if each["type_name"] == "ConnectionError"
    )
    code, out, said = ran(capsys, "errors", directory, known["fingerprint"][:6])
    assert (code, said) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "ConnectionError: the encoder is gone: token=[redacted]"
    assert f"  group {known['fingerprint']} of the type external_service" in lines
    assert "  GET /boom?token=[redacted]&page=2" in lines
    assert "  answered: 502" in lines and "  routes: GET /boom (1)" in lines
    assert "Traceback (most recent call last):" in lines
    assert any(re.match(r"  > +\d+ \| +raise ConnectionError\(", line) for line in lines)
    assert lines[-1] == "ConnectionError: the encoder is gone: token=[redacted]"
    assert "hidden" not in out
    told = ran(capsys, "errors", directory, known["fingerprint"], "--json")[1]
    assert orjson.loads(told)["group"] == known


def test_a_cause_is_told_before_what_it_led_to(capsys, directory):
    """Frames of the app with the lines around, those of others with theirs alone."""

    def link(kind, relation, **more):
        source = [[1, "def f():"], [2, "\treturn 1"]]
        told = {"file": f"{kind}.py", "line": 2, "function": "f", "source": source}
        frames = [{**told, "in_app": kind == "Last"}]
        return {"type": kind, "message": "", "relation": relation, "frames": frames, **more}

    first = link("Last", "", causes=[link("First", "cause")], dropped={"sources": 3, "causes": 0})
    keep_groups(directory, [group(sample={"at": 1.0, "exception": first})])
    out = ran(capsys, "errors", directory, "abc1")[1]
    traceback = """\
Traceback (most recent call last):
  File "First.py", line 2, in f
    return 1
First

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "Last.py", line 2, in f
        1 | def f():
  >     2 |     return 1
Last
left out for want of room: sources (3)
"""
    assert out.endswith(traceback)


def test_a_group_whose_sample_had_no_room_says_so(capsys, directory):
    keep_groups(directory, [group(sample={})])
    code, out, _ = ran(capsys, "errors", directory, "abc1")
    assert code == 0 and out.endswith("  no sample of it is kept\n")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("zz", "no group of errors has an id that begins with 'zz': there are 3, "),
        ("ab", "2 groups of errors have an id that begins with 'ab': give more of it, for ab"),
        ("\x1b[2J", r"begins with '\x1b[2J'"),
    ],
    ids=["unknown", "several", "hostile"],
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_an_id_that_means_no_group_is_refused(capsys, directory, wanted, words, more):
    """With exit code 2 and one line that says how many there are."""
    keep_groups(directory, [group("abc1"), group("abc2"), group("dd")])
    code, out, said = ran(capsys, "errors", directory, wanted, *more)
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1 and said.startswith("asgi-errorkit: ")
    assert words in said


def test_a_whole_id_is_meant_although_another_begins_with_it(capsys, directory):
    keep_groups(directory, [group("abc"), group("abcd", message="longer")])
    assert "longer" not in ran(capsys, "errors", directory, "abc")[1]


def test_an_id_may_stand_alone_where_the_environment_names_the_directory(
    capsys, directory, monkeypatch, tmp_path
):
    """What is a path that exists is the directory, as is all where nothing is in the environment."""
    keep_groups(directory, [group("abc1", message="the one")])
    code, _, said = ran(capsys, "errors", "abc1")
    assert code == 2 and "abc1 does not exist" in said
    monkeypatch.setenv("ASGI_ERRORKIT_DIR", str(directory))
    assert "the one" in ran(capsys, "errors", "abc")[1]
    assert "the one" in ran(capsys, "errors", "--json", "abc")[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "abc").mkdir(0o700)
    assert ran(capsys, "errors", "abc") == (0, "no error has been seen\n", "")


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "many", "1e9"])
def test_minutes_that_make_no_sense_are_refused(capsys, directory, minutes):
    code, out, said = ran(capsys, "errors", directory, f"--minutes={minutes}")
    assert (code, out) == (2, "") and "--minutes" in said


def test_one_group_tells_its_last_occurrences(capsys, directory):
    """The latest first; what is not known of one is left out."""
    first = {"at": 1.0, "request_id": "r1", "route": "GET /a", "status_code": 502,
             "outcome": "server_error", "pid": 4242}  # fmt: skip
    keep_groups(directory, [group("abc1", latest=[{"at": 2.0}, first])])
    lines = ran(capsys, "errors", directory, "abc1")[1].splitlines()
    at = lines.index("  at 1970-01-01T00:00:02+00:00: no request")
    assert lines[at + 1] == (
        "  at 1970-01-01T00:00:01+00:00: request r1 of GET /a, 502 server_error, worker 4242"
    )
    told = document(capsys, "errors", directory)["groups"][0]["latest"]
    assert told == [{**dict.fromkeys(LATEST_KEYS), "at": 2.0}, first]


# Files of anybody


HOSTILE = {
    **{
        f"all-{number}": [group(**dict.fromkeys(GROUP_KEYS - set(group()), odd))]
        for number, odd in enumerate(ODD)
        if odd != 10**40
    },
    **{
        f"sample-{number}": [group(sample=dict.fromkeys(SAMPLE_KEYS, odd))]
        for number, odd in enumerate(ODD)
        if odd != 10**40
    },
    "evil": [
        group(
            **dict.fromkeys(("message", "where", "type_name", "error_type", "release"), EVIL_JSON),
            routes={EVIL_JSON: 1},
            latest=[dict.fromkeys(LATEST_KEYS, EVIL_JSON) | {"at": 1.0}] * 99,
            sample={
                **dict.fromkeys(("request_id", "method", "path", "query"), EVIL_JSON),
                "headers": {EVIL_JSON: EVIL_JSON},
                "context": {EVIL_JSON: EVIL_JSON},
                "exception": {
                    "type": EVIL_JSON,
                    "message": EVIL_JSON,
                    "frames": [
                        {"file": EVIL_JSON, "function": EVIL_JSON, "source": [[1, EVIL_JSON]]}
                    ],
                },
            },
        )
    ],
    "long": [
        group(message="x" * 100_000, sample={"path": "y" * 100_000, "context": {"a": "z" * 9999}})
    ],
    "far": [
        group(first_seen=-1e300, last_seen=1e300, sample={"at": 1e300}, latest=[{"at": 1e300}])
    ],
    "many-frames": [group(sample={"exception": {"frames": [{"line": 1}] * 20_000}})],
    "many-causes": [group(sample={"exception": {"causes": [{"type": "A"}] * 20_000}})],
    "ids": [group(EVIL_JSON), group("abc1")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_groups_are_shown_as_far_as_they_make_sense(capsys, directory, name):
    """Nothing in them is obeyed, none fills a screen, and the others are shown beside them."""
    keep_groups(directory, [*HOSTILE[name], group("77", message="honest")])
    for more in ([], ["abc1"], ["77"]):
        code, out, said = ran(capsys, "errors", directory, *more)
        assert (code, said) == (0, "")
        assert PRINTABLE.fullmatch(out)
        assert len(out) < 60_000
    assert "honest" in out
    assert all(set(each) == GROUP_KEYS for each in document(capsys, "errors", directory)["groups"])
    code, out, _ = ran(capsys, "errors", directory, "abc1", "--json")
    assert code == 0 and orjson.loads(out)["group"]["fingerprint"] == "abc1"


def test_a_sample_that_is_nested_too_deep_is_told_as_far_as_it_makes_sense(capsys, directory):
    told = {"context": "NESTED", "headers": {"a": "NESTED"}, "exception": {"frames": "NESTED"}}
    nested = group(sample=told, latest="NESTED")
    body = orjson.dumps({"groups": [nested, group("77", message="honest")]})
    write_totals(directory, body.replace(b'"NESTED"', NESTED))
    for more in ([], ["abc1"], ["abc1", "--json"]):
        code, out, said = ran(capsys, "errors", directory, *more)
        assert (code, said) == (0, "")
        assert PRINTABLE.fullmatch(out)


ANY_FRAME = st.dictionaries(st.sampled_from(sorted(FRAME_KEYS)), ANY)
ANY_LINK = st.dictionaries(
    st.sampled_from(sorted(LINK_KEYS)), ANY | st.lists(ANY_FRAME | ANY, max_size=3)
)
ANY_EXCEPTION = st.builds(
    lambda link, causes: {**link, "causes": causes}, ANY_LINK, st.lists(ANY_LINK, max_size=2) | ANY
)
ANY_SAMPLE = st.builds(
    lambda sample, exception: {**sample, "exception": exception},
    st.dictionaries(st.sampled_from(sorted(SAMPLE_KEYS)), ANY),
    ANY_EXCEPTION | ANY,
)
ANY_GROUP = st.builds(
    lambda told, sample: {**told, "fingerprint": "abc1", "count": 1, "sample": sample},
    st.fixed_dictionaries(
        {"first_seen": st.floats(allow_nan=False, allow_infinity=False), "last_seen": st.just(5)},
        optional=dict.fromkeys(
            ("message", "where", "release", "routes", "error_type", "latest"), ANY
        ),
    ),
    ANY_SAMPLE | ANY,
)


@settings(max_examples=40, deadline=None)
@given(groups=st.lists(ANY_GROUP, min_size=1, max_size=2))
def test_whatever_a_group_says_there_is_an_answer(groups):
    with tempfile.TemporaryDirectory() as made:
        keep_groups(Path(made), groups)
        for more in ([], ["abc1"], ["abc1", "--json"]):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                assert main(["errors", made, *more]) == 0
    told = orjson.loads(printed.getvalue())["group"]
    assert set(told) == GROUP_KEYS
    assert told["sample"] is None or set(told["sample"]) == SAMPLE_KEYS


# Where nothing is


def test_a_working_directory_that_is_gone_is_told_in_one_line(capsys, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    here = Path.cwd()
    os.chdir(gone)
    try:
        gone.rmdir()
        for command in ("crashes", "inflight", "stats", "errors"):
            code, out, said = ran(capsys, command, "module:app")
            assert (code, out) == (2, "")
            assert len(said.splitlines()) == 1 and "working directory is gone" in said
    finally:
        os.chdir(here)
