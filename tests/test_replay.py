"""A body is recorded while it is read, never ahead, and can be read again within a bound."""

import pytest

from asgi_errorkit.replay import ReplayedBody


def body(*pieces):
    """Messages of a request whose client leaves after them, and how many were asked for."""
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    asked = []

    async def receive():
        asked.append(1)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive, asked


async def read(replayed, number):
    return [(await replayed.receive()).get("body") for _ in range(number)]


async def test_nothing_is_read_ahead():
    """A message is asked of the server only when the app asks."""
    receive, asked = body(b"a", b"b", b"c")
    replayed = ReplayedBody(receive, 100)
    await read(replayed, 2)
    assert len(asked) == 2


async def test_what_was_read_is_read_again_and_then_the_rest():
    """Without asking the server again for what it has given."""
    receive, asked = body(b"a", b"b", b"c")
    replayed = ReplayedBody(receive, 100)
    assert await read(replayed, 2) == [b"a", b"b"]
    replayed.rewind()
    assert await read(replayed, 3) == [b"a", b"b", b"c"]
    replayed.rewind()
    assert await read(replayed, 3) == [b"a", b"b", b"c"]
    assert len(asked) == 3


async def test_what_the_app_does_to_a_message_is_not_read_again():
    receive, _ = body(b"a")
    replayed = ReplayedBody(receive, 100)
    message = await replayed.receive()
    message.clear()
    replayed.rewind()
    assert await read(replayed, 1) == [b"a"]


@pytest.mark.parametrize(("most", "can"), [(2, False), (3, True)], ids=["over", "at"])
async def test_beyond_the_bound_nothing_is_kept(most, can):
    """Each message counts for a byte more, so that empty ones are bounded too."""
    receive, _ = body(b"ab")
    replayed = ReplayedBody(receive, most)
    assert await read(replayed, 1) == [b"ab"]
    assert replayed.can_rewind is can


async def test_endless_empty_messages_are_bounded():
    async def receive():
        return {"type": "http.request", "more_body": True}

    replayed = ReplayedBody(receive, 10)
    await read(replayed, 100)
    assert not replayed.can_rewind
    assert replayed._kept == []


async def test_a_client_that_has_left_is_not_asked_again():
    receive, _ = body(b"a")
    replayed = ReplayedBody(receive, 10)
    await read(replayed, 2)
    assert not replayed.can_rewind
