"""The screen of `top` while it runs, until a key or a signal ends it."""

import signal

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from asgi_errorkit.cli.top.history import History
from asgi_errorkit.cli.top.keys import Keyboard, TerminalError, keyboard
from asgi_errorkit.cli.top.lines import Paper, as_text
from asgi_errorkit.cli.top.reader import Reader
from asgi_errorkit.cli.top.screen import draw, group_id_of
from asgi_errorkit.cli.top.signals import Asked, EndedError, heeded
from asgi_errorkit.cli.top.source import Source
from asgi_errorkit.cli.top.state import Seen, State, pressed
from asgi_errorkit.cli.top.terminal import let_go, screen, size_of_terminal

__all__ = ["show_live"]

_TICK_SECONDS = 0.1
_OF_SIGNAL = 128
_HUNG_UP = 1  # SIGHUP, which is not everywhere


def show_live(source: Source, console: Console, every_seconds: float) -> int:
    """Show it until somebody ends it; the exit status."""
    with heeded() as asked:
        shown = _Shown(Reader(source, every_seconds))
        try:
            shown.until_over(console, asked)
        except EndedError:
            pass
        except (OSError, TerminalError):  # nobody sits there any more
            let_go()
            return _OF_SIGNAL + (asked.ends_by or _HUNG_UP)
        finally:
            shown.reader.stop()
    return 0 if asked.ends_by in (None, signal.SIGINT) else _OF_SIGNAL + asked.ends_by


class _Shown:
    """What is shown, and what the keys have made of it."""

    __slots__ = ("_read_at", "_seen", "_state", "history", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.history = History()
        self._state, self._seen = State(), Seen()
        self._read_at = 0.0

    def until_over(self, console: Console, asked: Asked) -> None:
        """With the terminal given back, and taken again, as often as somebody stops the process."""
        self.reader.start()
        while not (self._state.is_over or asked.ends_by is not None):
            with keyboard() as keys, screen(console) as live:
                self._watch(live, keys, asked)
            asked.stop()

    def _watch(self, live: Live, keys: Keyboard, asked: Asked) -> None:
        """Draw what is new, and do what the keys say, until one of them or a signal ends it."""
        drawn: object = None
        while not (self._state.is_over or asked.is_anything):
            look, size = self.reader.latest(), size_of_terminal()
            paper = Paper(*size, live.console.encoding)
            if look.picture is not None and look.read_at != self._read_at:
                self.history.add(look.picture, look.read_at)
                self._read_at = look.read_at
            if drawn != (id(look), self._state, size):
                lines, self._seen = draw(look, self.history, self._state, paper)
                live.console.size = ConsoleDimensions(*size)
                live.update(as_text(lines), refresh=True)
                drawn = (id(look), self._state, size)
            for key in keys(_TICK_SECONDS):
                before, self._state = self._state, pressed(self._state, key, self._seen)
                if not (self._state.is_typing or before.lists_as(self._state)):
                    _, self._seen = draw(look, self.history, self._state, paper)
            self.reader.want(group_id_of(self._state), is_paused=self._state.is_paused)
