"""Takes secrets out of everything that is stored or shown; what it cannot judge it drops."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, unquote_plus

REDACTED = "[redacted]"

# A name is cut into words (snake, kebab, dotted, camel); any run of its words, written together
# in small letters, that stands here makes its value a secret. Words are never searched for inside
# words: `author`, `monkey`, `tokenizer` and the `max_tokens` of a model are harmless.
_NAMES = """
    accesskey accesstoken accountkey apikey apikeys appkey assertion auth authkey authorization
    authtoken bearer cardnumber clientsecret cookie cookies creditcard credential credentials csrf
    csrftoken cvc cvv encryptionkey idtoken jsessionid jwt licensekey masterkey oidcdata otp
    passcode passphrase passwd password passwords phpsessid privatekey pwd refreshtoken secret
    secretkey secrets session sessionid sessionkey sharedkey sig signature signingkey ssn
    storagekey subscriptionkey token totp xsrf xsrftoken
"""
SENSITIVE_NAMES = frozenset(_NAMES.split())
# Written together with whatever owns it: PGPASSWORD, myapikey.
SENSITIVE_ENDINGS = ("password", "passwd", "apikey", "secretkey", "privatekey", "accesstoken")
# These are secrets only as the whole name: `key` is, `primary_key` and `key_frames` are not.
SENSITIVE_WHOLE_NAMES = frozenset({"key", "pass", "pin", "sid", "dbpass", "smtppass"})
# An authorization code (RFC 6749) travels in a query; anywhere else a `code` is an error's.
SENSITIVE_PARAMETERS = frozenset({"code"})
# As its last word, what makes a name tell about a secret without telling it: `token_count`.
_ABOUT = """
    algorithm at budget count error expires expiry format in length limit max method min name
    scheme seconds size status ttl type usage version
"""
HARMLESS_LAST_WORDS = frozenset(_ABOUT.split())

# Where the value of a name is a secret.
NOWHERE, IN_QUERIES, UNLESS_PROSE, EVERYWHERE = range(4)

MAX_VALUES = 512  # of one mapping, all depths together
MARGIN = 1024  # characters read beyond a limit, so that no secret is cut before it is known
SHORTEST_BARE = 11  # characters of the shortest that `_BARE` knows by letters and digits alone
MAX_CACHED_NAMES = 1024
MAX_CACHED_NAME_LENGTH = 128
MAX_CACHED_TEXTS = 2048

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Every pattern below is tried once at a place and gives nothing back that it has taken, or is
# bounded: time stays linear in the length of hostile text.
_PARAMETER_NAME = re.compile(r"[&;]([^&;=]*+)=")
_PARAMETER = re.compile(r"(?<![^&;])([^&;=]*+)=([^&;]*+(?:;[^&;=]*+(?=[&;]|\Z))*+)")
_PART = re.compile(r"([?#])")
_USERINFO = re.compile(r"\A(/{2})?[^\s/?#@:]*+:[^\s/?#@]*+(?=@)")
# A host has at most 253 characters: more without an @ is a password whose end is out of sight.
_CREDENTIALS = re.compile(
    r"""(:\\{0,2}/\\{0,2}/)
    (?: [^\s/?\#"<>]*(?=@)
      | [^\s/?\#"<>]{256,}+
      | (?!\[[\w:.%]++\])[^\s/?\#"<>@:]++:(?!\d{1,5}(?:[/?\#\s]|\Z))[^\s"<>@]{1,256}+(?=@)
    )""",
    re.VERBOSE,
)
_NAME = re.compile(
    r"""(?<![\w.%-])
    ((?:(?:api|access|secret|private|signing|encryption)[ ])?[\w.%-]++)
    ( [\]"'\\]{0,4}+\s{0,4}+(?: => | := | ==? | : | (?<=["']),(?!\ line\ \d) )\s{0,4}+
    # A traceback has a line number behind the quoted name of a file, such as session.py.
    # Prose quotes a password right behind the word; of a token or a key it quotes harmless ones.
    | (?: (?<=password) | (?<=passwd) | (?<=passphrase) | (?<=pwd) )[ ]{1,4}+(?=\\{0,2}["'`]) )""",
    re.VERBOSE | re.IGNORECASE,
)
_ENCLOSED = r"""\[redacted\]
    | [bru]{0,2}+(?: "(?:[^"\\]|\\.)*+"? | '(?:[^'\\]|\\.)*+'? )
    | \\++["'](?:[^\\]|\\++(?!["']))*+(?:\\++["'])?
    | [\w.]{0,40}+\([^)\r\n]*+\)?
    | [\[{][^\r\n]*+ """
_VALUE_FLAGS = re.VERBOSE | re.IGNORECASE | re.DOTALL
_VALUE = re.compile(
    _ENCLOSED + r'| (?:(?:bearer|basic|digest|negotiate|token)\s++)?[^\s&;"]*+', _VALUE_FLAGS
)
_LINE = re.compile(_ENCLOSED + r"| [^\r\n]*+", _VALUE_FLAGS)
# Pydantic quotes the input under the name of its field.
_FIELD_INPUT = re.compile(r"^([\w.-]++)\n(.*?\binput_value=)(.*?)(?=, input_type=|$)", re.MULTILINE)
# What is a secret by its looks: schemes, private keys, JSON web tokens, and the key formats of
# AWS, OpenAI, Anthropic and Stripe, GitHub, GitLab, Slack, Google, Hugging Face and Replicate.
_BARE = re.compile(
    r"""(?=[-ABbeghrsx])(?:  # nearly twice as fast as without these first characters
      ( (?: [Bb]earer | BEARER | Basic(?=\s++[A-Za-z+/]*+[0-9=]) )\s++ )[\w.~+/=-]++
    | -----BEGIN[A-Z ]{0,32}PRIVATE\ KEY.*?(?: -----END[A-Z ]{0,40}----- | \Z )
    | A(?: KIA | SIA | BIA | CCA )[A-Z0-9]{12,}+
    | AIza[\w-]{30,}+
    | eyJ[\w-]{8,}+(?:\.[\w-]*+){0,4}
    | [rs]k[_-](?: (?<![A-Za-z0-9]...) | (?<=\\[nrt]...) )[\w-]{16,}+
    | g(?: h[oprsu]_ | ithub_pat_ | lpat- )[\w-]{20,}+
    | (?: hf_ | r8_ )[A-Za-z0-9]{20,}+
    | xox[a-z]-[\w-]{10,}+
    )""",
    re.VERBOSE | re.DOTALL,
)


class Redactor:
    """Replaces the values of sensitive names, and what looks like a secret, by ``[redacted]``.

    ``extra_names`` join the names above and are matched alike, word by word; more may be added as
    long as it is used. Raises TypeError for a bare string and ValueError for a name without a
    letter or digit.
    """

    known_text: Callable[[str], str]
    """`text` of what is short and comes often, such as a line of source: it is judged once."""

    def __init__(self, *, extra_names: Iterable[str] = ()) -> None:
        self.extra_names: frozenset[str] = frozenset()
        self._extra: frozenset[str] = frozenset()
        self._longest_run = 3
        self.add(extra_names)

    def add(self, extra_names: Iterable[str]) -> None:
        """Match further names, from now on."""
        if isinstance(extra_names, str):
            raise TypeError(f'extra_names must be a list, e.g. ["{extra_names}"]; got a string')
        names = list(extra_names)
        extra = [_extra_words(name) for name in names]
        self.extra_names |= frozenset(names)
        self._extra |= frozenset("".join(words) for words in extra)
        self._longest_run = max([self._longest_run, *map(len, extra)])
        # The last step: whoever judges meanwhile, in another thread, does so into the old memory.
        self._cached_place = lru_cache(MAX_CACHED_NAMES)(self._judge)
        self.known_text = lru_cache(MAX_CACHED_TEXTS)(self.text)

    def is_sensitive(self, name: str, *, in_query: bool = False) -> bool:
        """Whether the value under this name is a secret; some are in a query alone."""
        return self._place(name) >= (IN_QUERIES if in_query else UNLESS_PROSE)

    def query(self, query_string: str, limit: int | None = None) -> str:
        """The query with secret values replaced; every other byte stays as it was.

        Of one longer than ``limit`` the parameters that lie beyond are left out, whole: what was
        cut before it could be known for a secret would be shown.
        """
        if limit is not None and len(query_string) > limit:
            kept, separator, _ = query_string[:limit].rpartition("&")
            query_string = f"{kept}{separator}..."
        if "=" not in query_string:
            return query_string and _without_bare(query_string)
        return _without_bare(self._without_parameters(query_string))

    def url(self, url: str) -> str:
        """The URL without credentials, and without secrets in path, query and fragment."""
        if "@" in url:
            url = _USERINFO.sub(_with_prefix, _without_credentials(url))
        if "=" in url:
            url = "".join(map(self._without_parameters, _PART.split(url)))
        return _without_bare(url)

    def text(self, value: object, limit: int = 2048) -> str:
        """At most ``limit`` characters of free text, such as an exception, without its secrets.

        Give it the whole: what was cut before it could be known for a secret would be shown.
        """
        try:
            window = _plain(value, limit + MARGIN + 1)
            text = self._clean(window)
        except Exception:  # noqa: BLE001  what cannot be judged is not shown
            return REDACTED
        if len(window) <= limit + MARGIN:
            return _shorten(text, limit)
        # Whatever could not be known for a secret, because it is cut, is shorter than the margin.
        return _shorten(text if text.endswith(REDACTED) else text[:-MARGIN], limit, cut=True)

    def header(self, name: str, value: str) -> str:
        """The header's value, unless its name says that it is a secret."""
        return REDACTED if self.is_sensitive(name) else self.text(value)

    def mapping(self, value: object, depth: int = 6) -> object:
        """A bounded copy of JSON-like data, without secrets; what is no JSON becomes text.

        Goes ``depth`` containers deep, puts "..." for the rest, and never raises.
        """
        return self._copy(value, depth, iter(range(MAX_VALUES)))

    def _place(self, name: str) -> int:
        fits = len(name) <= MAX_CACHED_NAME_LENGTH
        return self._cached_place(name) if fits else self._judge(name)

    def _judge(self, name: str) -> int:
        words = _words(unquote_plus(name))
        whole, last = "".join(words), words[-1] if words else ""
        runs = _runs(words, self._longest_run)
        if not runs.isdisjoint(self._extra):
            return EVERYWHERE
        if last not in HARMLESS_LAST_WORDS and (
            not runs.isdisjoint(SENSITIVE_NAMES)
            or any(word.endswith(SENSITIVE_ENDINGS) for word in words)
        ):
            return EVERYWHERE
        if whole in SENSITIVE_WHOLE_NAMES:
            return UNLESS_PROSE
        return IN_QUERIES if whole in SENSITIVE_PARAMETERS else NOWHERE

    def _without_parameters(self, text: str) -> str:
        names = _PARAMETER_NAME.findall(f"&{text}")
        nested = "%3" in text or ":" in text or text.count("=") > len(names)
        place = self._cached_place if len(text) <= MARGIN else self._place
        if nested or any(map(place, names)):
            return _PARAMETER.sub(self._parameter, text)
        return text

    def _parameter(self, match: re.Match[str]) -> str:
        name, value = match.groups()
        if self._place(name) >= IN_QUERIES:
            return f"{name}={REDACTED}"
        plain = unquote_plus(value)  # perhaps a URL of its own
        clean = self._clean(plain)
        return match[0] if clean == plain else f"{name}={quote(clean, safe='/:?=@[]')}"

    def _clean(self, text: str) -> str:
        text = _without_credentials(text)
        if "input_value=" in text:
            text = _FIELD_INPUT.sub(self._field_input, text)
        # No name announces a value without one of these; most text is done with here.
        if "=" in text or ":" in text or "'" in text or '"' in text or "`" in text:
            text = self._without_named(text)
        return _without_bare(text)

    def _field_input(self, match: re.Match[str]) -> str:
        return f"{match[1]}\n{match[2]}{REDACTED}" if self.is_sensitive(match[1]) else match[0]

    def _without_named(self, text: str) -> str:
        kept, done = [], 0
        match = _NAME.search(text)
        while match:
            end = self._end_of_secret(match)
            if end > match.end():
                kept += [text[done : match.end()], REDACTED]
                done = end
            match = _NAME.search(text, max(done, match.end()))
        return "".join([*kept, text[done:]])

    def _end_of_secret(self, match: re.Match[str]) -> int:
        """Where the secret ends that follows a name; the name's own end when it is none."""
        if not self._announces_secret(match):
            return match.end()
        name, separator = match.groups()
        whole_line = ":" in separator and name.lower().endswith(("authorization", "cookie"))
        value = (_LINE if whole_line else _VALUE).match(match.string, match.end())
        return value.end() if value else match.end()

    def _announces_secret(self, match: re.Match[str]) -> bool:
        name, separator = match.groups()
        place, before = self._place(name), match.string[match.start() - 1 : match.start()]
        if before == "\\":  # of a line break in a repr
            place = max(place, self._place(name[1:]))
        if before in ("?", "&"):
            return place >= IN_QUERIES
        # In prose, "unknown key: video" tells no secret.
        return place >= (EVERYWHERE if separator.lstrip().startswith(":") else UNLESS_PROSE)

    def _copy(self, value: object, depth: int, budget: Iterator[int]) -> object:
        try:
            return self._copy_any(value, depth, budget)
        except Exception:  # noqa: BLE001  what cannot be judged is not shown
            return REDACTED

    def _copy_any(self, value: object, depth: int, budget: Iterator[int]) -> object:
        if _is_plain(value):
            return value
        if not isinstance(value, Mapping | list | tuple | set | frozenset):
            return self.text(value if isinstance(value, str | bytes | bytearray) else repr(value))
        if depth <= 0:
            return "..."
        if isinstance(value, Mapping):
            return self._copy_mapping(value, depth, budget)
        if len(value) == 2 and self._names_secret(next(iter(value))):  # a header and its value
            return [self.text(next(iter(value))), REDACTED]
        return self._copy_items(value, depth, budget)

    def _copy_mapping(
        self, value: Mapping[object, object], depth: int, budget: Iterator[int]
    ) -> dict[str, object]:
        copy: dict[str, object] = {}
        for key, item in value.items():
            if next(budget, None) is None:
                copy["..."] = "..."
                break
            hidden = self._names_secret(key) and item is not None and type(item) is not bool
            copy[self.text(key, 256)] = REDACTED if hidden else self._copy(item, depth - 1, budget)
        return copy

    def _copy_items(
        self, value: Iterable[object], depth: int, budget: Iterator[int]
    ) -> list[object]:
        copy: list[object] = []
        for item in value:
            if next(budget, None) is None:
                copy.append("...")
                break
            copy.append(self._copy(item, depth - 1, budget))
        return copy

    def _names_secret(self, key: object) -> bool:
        # Its type, for `__class__` may raise, and then the neighbours would be dropped as well.
        return issubclass(type(key), str | bytes) and self.is_sensitive(_plain(key, MARGIN))


def safe_str(value: object, limit: int = 2048) -> str:
    """At most ``limit`` characters of ``str(value)``, encodable as UTF-8; never raises.

    Bytes are decoded. What is cut ends with "...".
    """
    if type(value) is str and len(value) <= limit and value.isascii():
        return value
    return _shorten(_plain(value, limit + 1), limit)


def _plain(value: object, size: int) -> str:
    try:
        if isinstance(value, bytes | bytearray):
            text = bytes(value[:size]).decode("utf-8", "replace")
        else:
            text = str(value)
    except BaseException:  # noqa: BLE001  as in traceback.py: a __str__ may raise anything
        # Past the metaclass, which may raise as well.
        text = f"<{type.__dict__['__name__'].__get__(type(value))} without a text>"
    # Of a subclass of str, too, this makes an ordinary string.
    text = str.__getitem__(text, slice(size))
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _shorten(text: str, limit: int, *, cut: bool = False) -> str:
    if len(text) <= limit and not cut:
        return text
    return text[: max(0, limit - 3)] + "..."[:limit]


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return value.bit_length() < 64  # what fits into JSON everywhere
    return value is None or type(value) in (bool, float)


def _words(name: str) -> list[str]:
    return _WORD.findall(_CAMEL.sub(" ", name).lower())


def _runs(words: list[str], longest: int) -> set[str]:
    """Every run of neighbouring words, up to the longest, written together."""
    starts = range(len(words))
    return {"".join(words[at : at + length]) for at in starts for length in range(1, longest + 1)}


def _extra_words(name: str) -> list[str]:
    words = _words(name) if isinstance(name, str) else []
    if not words:
        raise ValueError(f'an extra name is a string such as "iban" or "tax_id"; got {name!r}')
    return words


# A function, for re works a template out anew on every call, which costs more than the search.
def _with_prefix(match: re.Match[str]) -> str:
    return f"{match[1] or ''}{REDACTED}"


def _without_credentials(text: str) -> str:
    if ":" not in text:
        return text
    if text.startswith("//"):
        text = _USERINFO.sub(_with_prefix, text)
    return _CREDENTIALS.sub(_with_prefix, text)


def _without_bare(text: str) -> str:
    return _BARE.sub(_with_prefix, text)
