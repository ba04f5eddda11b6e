"""What is kept of an exception, and which errors are the same error."""

import asyncio
import gc
import json
import linecache
import os
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from itertools import cycle, islice, pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import fingerprint as fingerprint_module
from asgi_errorkit import tracebacks
from asgi_errorkit.errors import ErrorInfo
from asgi_errorkit.fingerprint import (
    as_json,
    fingerprint,
    format_text,
    frames,
    is_any_of,
    shorter,
    snapshot,
    top_in_app,
)
from asgi_errorkit.redact import Redactor

ROOT = Path(__file__).parent.parent


def raised(function, *args):
    """The exception that a call raises."""
    try:
        function(*args)
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def seen(function, *args):
    """The snapshot of the exception that a call raises."""
    return snapshot(raised(function, *args))


def group_of(function, *args):
    return fingerprint(seen(function, *args))


def functions(frame_list):
    return [frame.function for frame in frame_list]


@pytest.fixture
def module(tmp_path):
    """Writes a source file and runs it as a module; of the same name when asked again."""

    def load(source, path="project/shop/orders.py"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        spec = spec_from_file_location("shop.orders", file)
        loaded = module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    return load


def test_frames_that_were_passed_before_are_the_same_object(module):
    loaded = module("def fail(n):\n    if n: fail(n - 1)\n    raise ValueError(n)\n")
    first, second = seen(loaded.fail, 3), seen(loaded.fail, 3)
    assert first.frames is second.frames
    assert first.frames is not seen(loaded.fail, 4).frames


def test_frames_of_code_that_is_equal_but_lies_in_another_file_are_not_taken_for_it(module):
    """Code objects compare equal whatever file they are of."""
    source = "def fail():\n    raise ValueError\n"
    one, other = module(source, "project/a/orders.py"), module(source, "project/b/orders.py")
    assert one.fail.__code__ == other.fail.__code__
    for loaded in (one, other, one):
        ((code, _),) = seen(loaded.fail).frames[1:]
        assert code is loaded.fail.__code__


def test_lines_are_those_of_the_raise_not_of_one_before(module):
    loaded = module("def fail(n):\n    if n:\n        raise ValueError\n    raise KeyError\n")
    assert [seen(loaded.fail, n).frames[-1][1] for n in (1, 0, 1, 0)] == [3, 4, 3, 4]


def test_what_was_passed_is_remembered_within_a_bound(module):
    for number in range(3000):
        function = eval(f"lambda: {'-' * (number % 50)}[][{number}]")
        seen(function)
    assert len(tracebacks._known) <= 1024


def test_a_class_that_was_looked_at_is_not_kept_alive():
    def made():
        class LostError(Exception):
            pass

        assert is_any_of(LostError, frozenset(("Exception",)))
        assert not is_any_of(LostError, frozenset(("KeyError",)))
        return weakref.ref(LostError)

    seen_class = made()
    gc.collect()
    assert seen_class() is None


def test_a_source_that_comes_to_be_known_is_shown():
    """As that of a notebook's cell, which is run before it is registered."""
    namespace = {}
    exec(compile("def fail():\n    raise ValueError\n", "<cell-77>", "exec"), namespace)
    snap = seen(namespace["fail"])
    assert frames(snap)[-1].source == ()
    lines = ["def fail():\n", "    raise ValueError\n"]
    linecache.cache["<cell-77>"] = (1, None, lines, "<cell-77>")
    try:
        assert frames(snap)[-1].source[-1] == (2, "    raise ValueError")
    finally:
        del linecache.cache["<cell-77>"]


def test_a_traceback_is_redacted_frame_by_frame(module):
    loaded = module('def login():\n    password = "hunter2"; raise ValueError("token=hunter3")\n')
    text = format_text(seen(loaded.login), Redactor())
    assert "hunter" not in text
    assert 'password = [redacted]; raise ValueError("token=[redacted]")' in text
    assert text.endswith("\nValueError: token=[redacted]")


ORDERS = """
def pay(amount):
    check(amount)

def check(amount):
    raise ValueError(f"bad amount {amount}")

def refund(amount):
    raise ValueError(f"bad amount {amount}")

def descend(depth):
    if depth:
        descend(depth - 1)
    raise ValueError("at the bottom")

def ping(depth):
    if not depth:
        raise ValueError("in ping")
    pong(depth - 1)

def pong(depth):
    if not depth:
        raise ValueError("in pong")
    ping(depth - 1)

def ping_forever():
    pong_forever()

def pong_forever():
    ping_forever()
"""


class TrapError(Exception):
    """Raises whatever is asked of it."""

    def __str__(self):
        raise RuntimeError("str")

    __repr__ = __reduce__ = __reduce_ex__ = __bool__ = __str__

    def __eq__(self, other):
        raise RuntimeError("eq")

    def __hash__(self):
        raise RuntimeError("hash")

    def __getattribute__(self, name):
        raise RuntimeError(name)


def trap(*names):
    """An exception class whose properties of these names raise."""

    def refuse(self):
        raise RuntimeError("a property raised")

    return type("Trapped", (Exception,), {name: property(refuse) for name in names})


class EvilName(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("str")

    __format__ = __add__ = __hash__ = __repr__ = __str__


class EvilMeta(type):
    def __getattribute__(cls, name):
        if name in {"__module__", "__qualname__", "__name__"}:
            raise RuntimeError(name)
        return super().__getattribute__(name)


def without_module():
    """A class made where no module has a name."""
    space = {}
    exec("made = type('Nowhere', (Exception,), {})", space)
    del space["__builtins__"]
    return space["made"]()


class EvilGroup(ExceptionGroup):
    @property
    def exceptions(self):
        raise RuntimeError("exceptions")


HOSTILE = {
    "everything raises": TrapError(),
    "cause and context raise": trap("__cause__", "__context__", "__suppress_context__")(),
    "traceback raises": trap("__traceback__")(),
    "class raises": trap("__class__")(),
    "attributes raise": trap("__dict__", "args", "__notes__")(),
    "metaclass raises": EvilMeta("Meta", (Exception,), {})(),
    "module is no text": type("Odd", (Exception,), {"__module__": 7})(),
    "names are traps": type("Odd", (Exception,), {"__qualname__": EvilName("Odd")})(),
    "module is a trap": type("Odd", (Exception,), {"__module__": EvilName("mod")})(),
    "no module": without_module(),
    "group raises": EvilGroup("several", [ValueError("one")]),
    "text is no text": type("Odd", (Exception,), {"__str__": lambda self: 7})(),
    "ten megabytes": ValueError("x" * 10_000_000),
    "name of a megabyte": type("N" * 1_000_000, (Exception,), {})(),
    "half a character": ValueError("\ud800"),
    "bytes": ValueError(b"\xff\x00"),
    "no arguments": ValueError(),
    "interrupt": KeyboardInterrupt(),
}


class TestHostileExceptions:
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_are_kept_and_shown_within_bounds(self, kind):
        """Whatever an exception does when it is looked at, it is recorded, and in a small space."""

        def fail():
            raise HOSTILE[kind]

        kept = seen(fail)
        assert len(kept.message) <= 2048 and len(kept.type_name) <= 256
        assert functions(frames(kept))[-1].endswith("fail")
        assert len(fingerprint(kept)) == 16
        assert len(orjson.dumps(as_json(kept, Redactor()))) < 10_000
        assert format_text(kept).isprintable() is False
        assert format_text(kept).encode()

    def test_are_followed_past_their_traps(self):
        """The interpreter's own links are read, not the properties that hide them."""
        exc = trap("__cause__", "__traceback__")()

        def fail():
            raise exc from KeyError("hidden")

        kept = seen(fail)
        assert [link.type_name for link in kept.links()][1:] == ["KeyError"]
        assert [link.type_name for link in seen(lambda: throw(HOSTILE["group raises"])).links()][
            1:
        ] == ["ValueError"]

    def test_are_not_asked_what_they_equal(self):
        """A chain of two traps is no cycle, and is found so without comparing them."""
        first, second = TrapError(), TrapError()

        def fail():
            raise first from second

        assert len(list(seen(fail).links())) == 2


def throw(exc):
    raise exc


class TestLongMessages:
    @pytest.mark.parametrize("words", [1, 100, 5000])
    def test_are_bounded(self, words):
        assert len(seen(throw, ValueError("word " * words)).message) <= 2048

    def test_are_not_cut_within_a_word(self):
        """Half a password is not known for one: the last word goes as a whole."""
        for length in range(2000, 2060):
            exc = ValueError("x" * length + " postgres://user:secret@host/db")
            made = as_json(seen(throw, exc), Redactor())
            assert "user:" not in made["message"]
            assert "user:" not in Redactor().text(format_text(seen(throw, exc)), 99_999)

    def test_of_one_endless_word_are_kept(self):
        message = seen(throw, ValueError("x" * 5000)).message
        assert message == "x" * 2045 + "..."


class TestNames:
    def test_builtins_stand_alone(self):
        assert seen(throw, ValueError("x")).type_name == "ValueError"

    def test_others_carry_their_module(self):
        exc = json.JSONDecodeError("bad", "{", 1)
        assert seen(throw, exc).type_name == "json.decoder.JSONDecodeError"

    def test_inner_classes_carry_their_owner(self):
        class InnerError(Exception):
            pass

        name = seen(throw, InnerError()).type_name
        assert (
            name == f"{__name__}.TestNames.test_inner_classes_carry_their_owner.<locals>.InnerError"
        )


class TestWhatIsLetGo:
    def test_exception_and_frames_are_freed(self):
        """A snapshot keeps neither the exception nor a variable of the frames it came through."""

        class OwnError(Exception):
            pass

        class Big:
            pass

        watched = []

        def fail():
            big = Big()
            exc = OwnError(big)
            watched.extend([weakref.ref(big), weakref.ref(exc)])
            raise exc

        def keep():
            try:
                fail()
            except OwnError as exc:
                return snapshot(exc)

        kept = keep()
        gc.collect()
        assert [ref() for ref in watched] == [None, None]
        assert functions(frames(kept))[-1].endswith("fail")


class TestTracebacks:
    def test_keeps_each_frame_with_its_line(self, module):
        kept = seen(module(ORDERS).pay, 3)
        assert [(code.co_name, line) for code, line in kept.frames[1:]] == [
            ("pay", 3),
            ("check", 6),
        ]

    def test_of_recursion_keeps_both_ends(self, module):
        """The outermost ten and the innermost forty; what lay between is counted."""
        kept = seen(module(ORDERS).descend, 300)
        assert len(kept.frames) == 50
        assert kept.gap == 302 - 50
        assert kept.frames[0][0].co_name == "raised"
        assert [line for _, line in kept.frames[10:]] == [*[13] * 39, 14]

    def test_of_fifty_frames_has_no_gap(self, module):
        kept = seen(module(ORDERS).descend, 48)
        assert (len(kept.frames), kept.gap) == (50, 0)

    def test_of_an_exception_raised_again_and_again_is_bounded(self):
        """A module's one exception object grows its traceback with every raise."""
        constant = ValueError("raised again")
        for _ in range(6000):
            exc = raised(throw, constant)
        kept = snapshot(exc)
        assert len(kept.frames) == 50
        assert kept.gap == 5000 - 50

    def test_of_an_exception_never_raised_is_empty(self):
        kept = snapshot(ValueError("x"))
        assert kept.frames == ()
        assert top_in_app(kept) is None
        assert format_text(kept) == "ValueError: x"
        assert fingerprint(kept) != fingerprint(snapshot(KeyError("x")))

    def test_goes_through_lambdas_generators_c_code_and_coroutines(self):
        """Every kind of Python frame is there; functions in C have none."""

        def numbers():
            yield 1 // 0

        async def inner():
            return sorted([1], key=lambda _: list(numbers()))

        async def outer():
            await inner()

        names = [name.rpartition(".")[2] for name in functions(frames(seen(outer().send, None)))]
        assert names == ["raised", "outer", "inner", "<lambda>", "numbers"]

    def test_goes_through_an_event_loop(self):
        """The loop's frames are Python's own, the application's are not."""

        async def work():
            raise ValueError("x")

        async def main():
            await asyncio.gather(work())

        shown = frames(seen(asyncio.run, main()))
        assert [frame.function.rpartition(".")[2] for frame in shown if frame.in_app] == [
            "raised",
            "main",
            "work",
        ]
        assert "asyncio/runners.py" in [frame.file for frame in shown]

    def test_goes_through_generated_code(self):
        space = {}
        exec("def made():\n    raise ValueError('x')", space)
        last = frames(seen(space["made"]))[-1]
        assert last == ("<string>", 2, "made", True, ())

    def test_takes_code_without_line_numbers(self):
        """Some generators of code leave the lines out."""

        def fail():
            raise ValueError("x")

        # Entries of "no location", each for eight code units; an empty table would be read beyond.
        units = len(fail.__code__.co_code) // 2
        table = b"".join(bytes([0xF8 | min(8, units - at) - 1]) for at in range(0, units, 8))
        fail.__code__ = fail.__code__.replace(co_linetable=table, co_filename=__file__)
        assert frames(seen(fail))[-1][1] == 0


def linked(count):
    """A chain of exceptions, each the context of the one before it."""
    chain = [ValueError(str(number)) for number in range(count)]
    for outer, inner in pairwise(chain):
        outer.__context__ = inner
    return chain


class TestChains:
    def relations(self, exc):
        return [(link.type_name, link.relation) for link in snapshot(exc).links()]

    def test_follows_the_cause(self):
        def fail():
            try:
                raise KeyError("k")
            except KeyError as exc:
                raise ValueError("v") from exc

        assert self.relations(raised(fail)) == [("ValueError", ""), ("KeyError", "cause")]

    def test_follows_the_context(self):
        def fail():
            try:
                raise KeyError("k")
            except KeyError:
                raise ValueError("v")  # noqa: B904  the point of it

        assert self.relations(raised(fail)) == [("ValueError", ""), ("KeyError", "context")]

    def test_leaves_out_a_suppressed_context(self):
        def fail():
            try:
                raise KeyError("k")
            except KeyError:
                raise ValueError("v") from None

        assert self.relations(raised(fail)) == [("ValueError", "")]

    def test_follows_the_members_of_groups(self):
        """Each member stands after the group, with what it came from right behind it."""
        member = raised(throw, TypeError("t"))
        member.__cause__ = OSError("o")
        inner = ExceptionGroup("inner", [LookupError("l")])
        exc = ExceptionGroup("outer", [member, inner])
        exc.__cause__ = KeyError("k")
        assert self.relations(exc) == [
            ("ExceptionGroup", ""),
            ("KeyError", "cause"),
            ("TypeError", "member"),
            ("OSError", "cause"),
            ("ExceptionGroup", "member"),
            ("LookupError", "member"),
        ]

    def test_ends_in_a_cycle(self):
        first, second = KeyError("a"), ValueError("b")
        first.__cause__, second.__cause__ = second, first
        assert self.relations(first) == [("KeyError", ""), ("ValueError", "cause")]

    def test_ends_at_itself(self):
        exc = ValueError("own cause")
        exc.__cause__ = exc
        assert self.relations(exc) == [("ValueError", "")]

    def test_takes_eight_of_three_thousand(self):
        kept = snapshot(linked(3000)[0])
        assert [link.message for link in kept.links()] == list("01234567")

    def test_takes_seven_of_ten_thousand_members(self):
        exc = ExceptionGroup("many", [ValueError(str(n)) for n in range(10_000)])
        assert [link.message for link in snapshot(exc).links()][1:] == list("0123456")

    def test_takes_eight_of_groups_in_groups(self):
        exc = ValueError("innermost")
        for _ in range(500):
            exc = ExceptionGroup("outer", [exc])
        assert len(list(snapshot(exc).links())) == 8


class TestSameError:
    """One fault is one group, wherever, whenever and with whatever data it happens."""

    def test_is_sixteen_hex_digits(self, module):
        assert int(group_of(module(ORDERS).pay, 1), 16) >= 0
        assert len(group_of(module(ORDERS).pay, 1)) == 16

    def test_with_another_message(self, module):
        orders = module(ORDERS)
        assert group_of(orders.pay, 1) == group_of(orders.pay, 2)

    def test_after_lines_have_moved(self, module):
        before = group_of(module(ORDERS).pay, 1)
        assert group_of(module("\n# moved\n" * 5 + ORDERS).pay, 1) == before

    def test_in_another_folder(self, module, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path / "here"))
        monkeypatch.syspath_prepend(str(tmp_path / "deep" / "there"))
        here = seen(module(ORDERS, "here/shop/orders.py").pay, 1)
        there = seen(module(ORDERS, "deep/there/shop/orders.py").pay, 1)
        assert frames(here)[-1].file == "shop/orders.py"
        assert fingerprint(here) == fingerprint(there)

    def test_in_another_folder_outside_of_every_import_root(self, module, tmp_path):
        """A package is known by its own name also when it was loaded by its path."""
        for folder in ("one", "deep/two"):
            package = tmp_path / folder / "shop"
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
        here = seen(module(ORDERS, "one/shop/orders.py").pay, 1)
        there = seen(module(ORDERS, "deep/two/shop/orders.py").pay, 1)
        assert frames(here)[-1].file == "shop/orders.py"
        assert fingerprint(here) == fingerprint(there)

    @pytest.mark.parametrize("depth", [1, 5, 47, 60, 500])
    def test_however_deep_it_recursed(self, module, depth):
        orders = module(ORDERS)
        assert group_of(orders.descend, depth) == group_of(orders.descend, 2)

    def test_however_deep_two_functions_recursed(self, module):
        """Raised in the same function, after more turns."""
        orders = module(ORDERS)
        assert group_of(orders.ping, 2) == group_of(orders.ping, 20)

    def test_when_the_stack_ran_out_one_call_earlier(self, module):
        """Which of two functions meets the end of the stack depends on where they started."""
        orders = module(ORDERS)

        def deeper():
            return raised(orders.ping_forever)

        first, second = raised(orders.ping_forever), deeper()
        assert {first.__class__, second.__class__} == {RecursionError}
        assert fingerprint(snapshot(first)) == fingerprint(snapshot(second))

    def test_through_other_library_code(self, module):
        """What an installed package does in between has no part in it."""
        library = (
            "def call(function):\n    function(1)\n\ndef other(function):\n    call(function)\n"
        )
        installed = module(library, "venv/site-packages/lib/calls.py")
        orders = module(ORDERS)
        assert group_of(installed.call, orders.pay) == group_of(installed.other, orders.pay)

    def test_in_generated_code(self):
        """Names of code that no file holds count up, and may carry an address."""

        def made(file, name):
            space = {}
            exec(compile(f"def {name}():\n    raise ValueError", file, "exec"), space)
            return space[name]

        first = group_of(made("<cell-17>", "run_0x7fff01"))
        assert first == group_of(made("<cell-18>", "run_0x7fffab"))
        assert first != group_of(made("<cell-18>", "walk"))

    def test_with_members_in_another_order(self, module):
        orders = module(ORDERS)
        members = [raised(orders.pay, 1), raised(orders.descend, 1), KeyError("k")]
        assert group_of(throw, ExceptionGroup("g", members)) == group_of(
            throw, ExceptionGroup("other", members[::-1])
        )

    def test_in_another_process(self, tmp_path):
        """Two processes, two folders, two hash seeds: one id."""
        script = (
            "from asgi_errorkit.fingerprint import fingerprint, snapshot\n"
            "from shop.orders import pay\n"
            "try:\n    pay(3)\nexcept ValueError as exc:\n    print(fingerprint(snapshot(exc)))\n"
        )
        ids = set()
        for folder, seed in (("one", "1"), ("other/two", "2")):
            package = tmp_path / folder / "shop"
            package.mkdir(parents=True)
            (package / "orders.py").write_text(ORDERS)
            (tmp_path / folder / "main.py").write_text(script)
            environment = {
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            done = subprocess.run(
                [sys.executable, "main.py"],
                cwd=tmp_path / folder,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            ids.add(done.stdout.strip())
        assert len(ids) == 1
        assert len(ids.pop()) == 16


class TestOtherError:
    """What is fixed apart is grouped apart."""

    def test_raised_by_another_function(self, module):
        orders = module(ORDERS)
        assert group_of(orders.pay, 1) != group_of(orders.refund, 1)

    def test_raised_at_another_turn_of_a_recursion(self, module):
        orders = module(ORDERS)
        assert group_of(orders.ping, 4) != group_of(orders.ping, 5)

    def test_of_another_type(self):
        assert group_of(throw, KeyError("x")) != group_of(throw, ValueError("x"))

    def test_with_another_root_cause(self):
        def fail(cause):
            raise ValueError("x") from cause

        groups = {group_of(fail, cause) for cause in (None, KeyError("a"), OSError("b"))}
        assert len(groups) == 3

    def test_with_another_member(self, module):
        """A group is told apart by its members' types and by the places that raised them."""
        orders = module(ORDERS)
        members = [KeyError("k"), raised(orders.pay, 1), raised(orders.refund, 1)]
        groups = {group_of(throw, ExceptionGroup("g", [member])) for member in members}
        assert len(groups) == 3

    def test_a_cause_is_no_member(self, module):
        """The same two exceptions, linked in another way, are told apart whichever came first."""
        member = raised(module(ORDERS).pay, 1)
        with_member = ExceptionGroup("g", [member])
        with_cause = ExceptionGroup("g", [member])
        with_cause.__cause__ = member
        assert fingerprint(snapshot(with_member)) != fingerprint(snapshot(with_cause))

    def test_in_library_code_alone(self, module):
        """Without a frame of the application all frames count."""
        source = "def one():\n    raise ValueError\n\ndef two():\n    raise ValueError\n"
        library = module(source, "venv/site-packages/lib/raisers.py")

        def inside(function):
            exc = raised(function)
            return fingerprint(snapshot(exc.with_traceback(exc.__traceback__.tb_next)))

        assert inside(library.one) != inside(library.two)

    def test_never_by_the_reuse_of_an_address(self, monkeypatch):
        """Hundreds of dead functions later, a new one is not taken for an old one."""
        monkeypatch.setattr(fingerprint_module, "_MAX_PLACES", 1)
        groups = set()
        for number in range(500):
            space = {}
            exec(f"def made_{number}():\n    raise ValueError", space)
            groups.add(group_of(space[f"made_{number}"]))
        assert len(groups) == 500

    def test_caches_stay_small(self, monkeypatch):
        monkeypatch.setattr(fingerprint_module, "_MAX_GROUPS", 10)
        monkeypatch.setattr(fingerprint_module, "_MAX_PLACES", 10)
        for number in range(50):
            space = {}
            exec(f"def made_{number}():\n    raise ValueError", space)
            group_of(space[f"made_{number}"])
        assert len(fingerprint_module._groups) <= 10
        assert len(fingerprint_module._places) <= 10


class TestWhoseCode:
    def place(self, function, *args):
        return frames(seen(function, *args))[-1]

    def in_app(self, path):
        return self.place(from_file(path)).in_app

    def test_python_itself_is_not_ours(self):
        assert self.place(json.loads, "{").file == "json/decoder.py"
        assert self.place(json.loads, "{").in_app is False

    def test_frozen_modules_are_not_ours(self):
        shown = frames(seen(import_module, "no_such_module_anywhere"))
        frozen = [frame.in_app for frame in shown if frame.file.startswith("<frozen importlib")]
        assert frozen and not any(frozen)

    def test_installed_packages_are_not_ours(self):
        """Of any environment: this one's, a user's, a distribution's."""
        assert self.place(pytest.raises, 7).file.endswith(".py")
        assert self.place(pytest.raises, 7).in_app is False
        assert self.in_app(Path(pytest.__file__).parent / "made.py") is False
        assert self.in_app("/home/me/.local/lib/python3.9/site-packages/lib/x.py") is False
        assert self.in_app("/usr/lib/python3/dist-packages/lib/x.py") is False

    def test_the_kit_is_not_ours(self):
        def fail():
            ErrorInfo("model", None, None)

        assert self.place(fail).in_app is False
        assert self.place(fail).file == "asgi_errorkit/errors.py"

    def test_a_generated_frame_is_never_the_place_to_look_at(self):
        """Between this function and the kit's lies a dataclass's own __init__, without a file."""

        def fail():
            ErrorInfo("model", None, None)

        assert "<string>" in [frame.file for frame in frames(seen(fail)) if frame.in_app]
        assert top_in_app(seen(fail)).function.endswith("fail")

    def test_the_kits_demo_is_an_application(self):
        assert self.in_app(ROOT / "asgi_errorkit" / "demo" / "app.py") is True

    def test_a_project_that_shares_the_prefix_of_its_environment_is_ours(self):
        """Only where Python and packages lie is foreign, not all below sys.prefix."""
        assert self.in_app(Path(sys.prefix) / "src" / "app.py") is True
        assert self.in_app(Path(sys.prefix).parent / "app.py") is True
        assert (
            self.in_app(Path(json.__file__).parent.parent.with_name("python-app") / "x.py") is True
        )

    def test_generated_code_is_ours(self):
        assert self.in_app("<string>") is True


def from_file(path):
    """A function that raises, of code that says it comes from this file."""

    def fail():
        raise ValueError("x")

    fail.__code__ = fail.__code__.replace(co_filename=str(path))
    return fail


class TestShownFiles:
    def shown(self, path):
        return frames(seen(from_file(path)))[-1].file

    def test_are_relative_to_the_longest_import_root(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path / "src"))
        monkeypatch.syspath_prepend(str(tmp_path))
        assert self.shown(str(tmp_path / "src" / "shop" / "orders.py")) == "shop/orders.py"

    def test_outside_of_every_root_keep_their_name(self):
        assert self.shown("/somewhere/else/script.py") == "script.py"

    def test_that_are_relative_stay_so(self):
        assert self.shown("shop/orders.py") == "shop/orders.py"

    def test_bear_odd_import_roots(self, tmp_path, monkeypatch):
        """Entries that are no text; a working directory that is gone."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        kept = seen(from_file(tmp_path / "shop" / "orders.py"))
        monkeypatch.setattr(sys, "path", ["", None, Path("/a"), b"/b", str(tmp_path)])
        assert frames(kept)[-1].file == "shop/orders.py"

    @pytest.mark.parametrize("name", ["a\0b.py", "/a\0b.py", "\ud800.py", "/" + "x" * 9999, ""])
    def test_may_have_any_name(self, name):
        assert len(self.shown(name)) <= 256
        assert self.shown(name).encode() is not None


class TestSource:
    def last(self, function, **options):
        return frames(seen(function), **options)[-1]

    def test_shows_two_lines_on_each_side(self, module):
        orders = module(ORDERS)
        assert frames(seen(orders.pay, 1))[-1].source == (
            (4, ""),
            (5, "def check(amount):"),
            (6, '    raise ValueError(f"bad amount {amount}")'),
            (7, ""),
            (8, "def refund(amount):"),
        )

    def test_shows_as_many_as_asked_for(self, module):
        orders = module(ORDERS)
        assert [n for n, _ in frames(seen(orders.pay, 1), source_lines=0)[-1].source] == [6]

    def test_ends_with_the_file(self, module):
        fail = module("def fail(): raise ValueError\n").fail
        assert self.last(fail).source == ((1, "def fail(): raise ValueError"),)

    def test_cuts_long_lines(self, module):
        fail = module(f"def fail(): raise ValueError('{'x' * 5000}')\n").fail
        assert len(self.last(fail).source[0][1]) <= 200

    def test_leaves_out_huge_files(self, module):
        fail = module("def fail(): raise ValueError\n" + "# filler\n" * 500_000).fail
        assert self.last(fail).source == ()

    def test_never_opens_what_is_no_file(self, tmp_path):
        """A pipe would be read for ever."""
        os.mkfifo(tmp_path / "pipe.py")
        assert self.last(from_file(tmp_path / "pipe.py")).source == ()

    def test_bears_files_that_are_no_text(self, module, tmp_path):
        fail = module("def fail(): raise ValueError\n").fail
        (tmp_path / "project/shop/orders.py").write_bytes(b"\xff\xfe\x00 # coding: nonsense\n")
        assert self.last(fail).source == ()

    def test_bears_a_name_that_cannot_be_opened(self):
        assert self.last(from_file("/a\0b.py")).source == ()


class TestTopInApp:
    def test_is_the_innermost_frame_of_the_application(self):
        def load():
            json.loads("{")

        frame = top_in_app(seen(load))
        assert frame.function.endswith("load") and frame.in_app
        assert "json.loads" in dict(frame.source)[frame.line]

    def test_is_looked_for_along_the_chain(self, module):
        exc = ValueError("made by nobody")
        exc.__cause__ = raised(module(ORDERS).pay, 1)
        assert top_in_app(snapshot(exc)).function == "check"

    def test_may_not_exist(self):
        exc = raised(json.loads, "{")
        kept = snapshot(exc.with_traceback(exc.__traceback__.tb_next))
        assert top_in_app(kept) is None


class TestText:
    def test_reads_like_pythons(self, module, tmp_path):
        """As the traceback module prints it, without its marks, files and functions as we show."""

        def fail():
            try:
                try:
                    module(ORDERS).pay(1)
                except ValueError as exc:
                    raise KeyError("k") from exc
            except KeyError:
                raise TypeError("two\nlines")  # noqa: B904  the point of it

        exc = raised(fail)
        expected = "".join(traceback.format_exception(exc))
        for theirs, ours in (
            (str(tmp_path / "project/shop/orders.py"), "orders.py"),
            (__file__, frames(snapshot(exc))[0].file),
            ("in fail\n", f"in {fail.__qualname__}\n"),
        ):
            expected = expected.replace(theirs, ours)
        told = format_text(snapshot(exc)).splitlines()
        assert [line for line in told if line] == [
            line for line in expected.splitlines() if set(line) - set(" ^~")
        ]

    def test_tells_members_of_a_group(self):
        text = format_text(snapshot(ExceptionGroup("several", [KeyError("k"), OSError("o")])))
        assert text == (
            "OSError: o\n\nThe above exception is a member of the following exception group:\n\n"
            "KeyError: 'k'\n\nThe above exception is a member of the following exception group:\n\n"
            "ExceptionGroup: several (2 sub-exceptions)"
        )

    def test_counts_the_frames_left_out(self, module):
        text = format_text(seen(module(ORDERS).descend, 100))
        assert "  ... 52 frames left out ...\n" in text

    def test_never_cuts_within_a_line(self, module):
        """Half a secret would not be known for one when the text is redacted."""
        kept = seen(module(ORDERS).descend, 100)
        whole = set(format_text(kept).splitlines())
        for limit in range(300, 5000, 41):
            lines = format_text(kept, limit_chars=limit).splitlines()
            assert set(lines) - whole <= {"... the middle is left out ..."}
            assert lines[-1] == "ValueError: at the bottom"

    @pytest.mark.parametrize("limit", [2500, 5000, 65536])
    def test_keeps_both_ends_within_its_limit(self, module, limit):
        exc = raised(module(ORDERS).descend, 100)
        for link in range(20):
            outer = ValueError("v" * 2000 + str(link))
            outer.__cause__, outer.__traceback__ = exc, exc.__traceback__
            exc = outer
        text = format_text(snapshot(exc), limit_chars=limit)
        assert len(text) <= limit
        assert text.startswith("Traceback (most")
        assert text.endswith("v" * 100 + "19")


class TestSample:
    def sample(self, kept):
        made = as_json(kept, Redactor())
        assert len(orjson.dumps(made)) <= 64 * 1024
        return made

    def test_tells_what_happened(self, module):
        def fail():
            try:
                module(ORDERS).pay(1)
            except ValueError as exc:
                raise KeyError("k") from exc

        made = self.sample(seen(fail))
        assert made["type"] == "KeyError" and made["message"] == "'k'"
        assert made["causes"][0]["type"] == "ValueError"
        assert made["causes"][0]["relation"] == "cause"
        assert made["causes"][0]["frames"][-1] == {
            "file": "orders.py",
            "line": 6,
            "function": "check",
            "in_app": True,
            "source": [
                [4, ""],
                [5, "def check(amount):"],
                [6, '    raise ValueError(f"bad amount {amount}")'],
                [7, ""],
                [8, "def refund(amount):"],
            ],
        }
        assert made["dropped"] == {"sources": 0, "frames": 0, "causes": 0}

    def test_holds_no_secret_of_the_message_or_the_source(self, module):
        fail = module(
            """
            def fail():
                password = "hunter2"
                raise ValueError("cannot log in with password=hunter2")
            """
        ).fail
        assert b"hunter2" not in orjson.dumps(self.sample(seen(fail)))

    def test_counts_the_frames_left_out(self, module):
        assert self.sample(seen(module(ORDERS).descend, 100))["frames_left_out"] == 52

    def long_source(self, module, depth, *, message="x", text="#" * 150, name="fail"):
        padding = f"    {text}\n" * 3
        source = f"def {name}(depth):\n{padding}    if depth:\n        {name}(depth - 1)\n"
        source += f"{padding}    raise ValueError({message!r})\n"
        return raised(getattr(module(source), name), depth)

    def test_drops_the_sources_of_outer_frames_first(self, module):
        exc = self.long_source(module, 60)
        exc.__cause__ = self.long_source(module, 60)
        exc.__cause__.__cause__ = self.long_source(module, 60)
        made = self.sample(snapshot(exc))
        assert made["dropped"]["sources"] > 0
        assert made["dropped"]["frames"] == made["dropped"]["causes"] == 0
        for link in (made, *made["causes"]):
            kept = [bool(frame["source"]) for frame in link["frames"]]
            assert kept == sorted(kept)
            assert kept[-1]
        without = sum(not f["source"] for link in (made, *made["causes"]) for f in link["frames"])
        assert without == made["dropped"]["sources"]

    def test_drops_frames_and_causes_when_that_is_not_enough(self, module):
        """The worst there is: long names of wide characters, long messages, the whole chain."""
        exc = None
        for _ in range(10):
            outer = self.long_source(module, 60, message="\x01" * 2048, name="ý" * 250)
            outer.__cause__, exc = exc, outer
        made = self.sample(snapshot(exc))
        assert made["type"] == "ValueError"
        assert made["dropped"]["frames"] > 0 and made["dropped"]["causes"] > 0

    @given(st.lists(st.tuples(st.text(max_size=3000), st.integers(0, 60)), min_size=1, max_size=10))
    def test_always_fits(self, links):
        exc = None
        for message, depth in links:
            outer = raised(fall, depth, message)
            outer.__cause__, exc = exc, outer
        assert self.sample(snapshot(exc))["type"] == "ValueError"


def fall(depth, message):
    if depth:
        fall(depth - 1, message)
    raise ValueError(message)


def test_threads_group_alike(module):
    """The caches are shared by all threads and may be emptied under any of them."""
    orders = module(ORDERS)
    work = list(islice(cycle([(orders.pay, 1), (orders.refund, 1), (orders.descend, 3)]), 60))
    results = []

    def run():
        results.append([group_of(*each) for each in work])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    "argument", [[1] * 100_000, {1: 2}, "x" * 5_000_000, b"y" * 100_000], ids=type
)
def test_a_message_is_bounded_whatever_was_raised(argument):
    """Of a huge argument as much is told as is worth it; writing it out would take a second."""
    message = snapshot(ValueError(argument)).message
    assert 3 <= len(message) <= 2048
    assert message[:6] == str(argument)[:6]


@pytest.mark.parametrize("most_bytes", [6_000, 3_000, 1_500, 800])
def test_of_a_shorter_sample_what_is_of_libraries_goes_first(most_bytes):
    """Its sources, then its frames; what was left out is counted, and the whole stays as it is."""

    def of(name, in_app):
        source = [[line, "x" * 100] for line in range(3)]
        return {"file": name, "line": 1, "function": "f", "in_app": in_app, "source": source}

    frames = [of(f"lib/{at}.py", in_app=False) for at in range(20)] + [of("app.py", in_app=True)]
    link = {"type": "E", "message": "m", "relation": None, "frames": frames, "frames_left_out": 0}
    whole = {**link, "causes": [link], "dropped": {"sources": 0, "frames": 0, "causes": 0}}
    before = orjson.dumps(whole)
    short = shorter(whole, most_bytes)
    assert orjson.dumps(whole) == before
    assert len(orjson.dumps(short)) <= most_bytes
    kept = [frame for each in (short, *short["causes"]) for frame in each["frames"]]
    assert len(kept) + short["dropped"]["frames"] == 42 or short["dropped"]["causes"]
    of_app = [frame for frame in kept if frame["in_app"]]
    of_libraries = [frame for frame in kept if not frame["in_app"]]
    if any(frame["source"] == [] for frame in of_app) or len(of_app) < 2:
        assert not of_libraries, "they would have gone before"
    if short["dropped"]["frames"]:
        assert not any(frame["source"] for frame in of_libraries)
