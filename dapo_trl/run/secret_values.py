"""
What nobody else is to see: access tokens, keys and passwords, wherever they stand in what is written.

Secrets are known by their *values*: those of settings whose name says so, at any depth; user and password in an
address; those of environment variables; and the stored login of the Hub. A value is masked wherever it stands, as it
is or as JSON, Python, HTML and addresses spell it:

- of 8 characters or more: anywhere, also inside of a word;
- of 4 to 7: where it stands as a word of its own;
- shorter ones, words of up to 7 letters (`true`, `step`), numbers of up to 7 digits, placeholders (`localhost`),
  special tokens (`<pad>`) and paths of files that exist: only as the value of a setting with such a name. Elsewhere
  they tell nothing, and masking them would make a text unreadable, or change the prompts of an evaluation.
"""

import base64
import contextlib
import dataclasses
import functools
import html
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from huggingface_hub import get_token


NOT_PUBLISHED = "not-published"
"""Stands for a secret."""

_NUM_CHARS_ANYWHERE = 8
_NUM_CHARS_AS_WORD = 4

_ENDINGS = ("token", "key", "secret", "password", "passwd", "passphrase", "credential", "authorization")
_WORDS = ("auth", "cookie", "jwt", "pass", "pat")
_ANYWHERE = re.compile(
    r"\b(secret|password|passwd|passphrase|connection string|(access|api|private) key|(access|auth|hf|hub) token)\b"
)
_ABOUT_SECRETS = ("dir", "env", "file", "id", "length", "name", "path", "type", "url")
_OWNERS_OF_TOKENS = ("access", "api", "auth", "bearer", "hf", "hub", "user")
"""`api_tokens` are secrets, `max_tokens` are none."""
_NO_SECRETS = (
    *("additional", "audio", "begin", "bos", "bot", "cls", "end", "eos", "eot", "image", "mask", "pad", "sep"),
    *("special", "start", "stop", "think", "unk", "video"),
    *("answer", "cache", "column", "label", "problem", "prompt", "solution", "sort"),
)
"""Before `token` or `key`: words of a vocabulary, columns of a table."""

_PLAIN = re.compile(
    r"[a-z]{1,7}|[A-Z]{1,7}|[A-Z][a-z]{1,6}|\d{1,7}|<[^<>]*>|\[[^\[\]]*\]|\$\{?\w+\}?"
    rf"|localhost|password|placeholder|{NOT_PUBLISHED}"
)
# User and password in an address; a part of a query with the name of a secret.
_IN_ADDRESS = re.compile(r"(?<=://)[^/?#\s\"'<>`\\]+(?=@)")
_IN_QUERY = re.compile(r"(?<=[?&])([\w.-]+)=([^&#\s\"'<>`\\]+)")

_remembered: set[str] = set()


@functools.cache
def is_secret_name(name: str) -> bool:
    """
    Whether a setting, a flag or an environment variable holds a secret, by its name in any case of letters.

    >>> [is_secret_name(name) for name in ("--hub-token", "WANDB_API_KEY", "apiKey", "HF_TOKEN_2")]
    [True, True, True, True]
    >>> [is_secret_name(name) for name in ("eos_token", "max_tokens", "token_normalization", "HF_TOKEN_PATH")]
    [False, False, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if not words or "@" in name:  # `pass@8` is a measure
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if before in _NO_SECRETS:
        return False
    if last not in _ABOUT_SECRETS and _ANYWHERE.search(" ".join(words)):
        return True
    if last == "tokens":
        return before in _OWNERS_OF_TOKENS
    if last == "pwd":
        return bool(before)  # `MYSQL_PWD`; `PWD` is a directory
    return last in _WORDS or last.removesuffix("s").endswith(_ENDINGS)


def remember(*parts: Any) -> None:
    """
    Takes note of the secrets in settings. From then on this process masks them in everything it writes.

    Args:
        parts: dataclasses, dictionaries, lists or texts.
    """
    for part in parts:
        _remembered.update(_secrets_in(part))


def mask_text(text: str) -> str:
    """
    A text without secrets.

    >>> mask_text("http://me:pa55word@localhost:8000/v1?api_key=abc")
    'http://not-published@localhost:8000/v1?api_key=not-published'
    """
    return _mask_text(text, _pattern(_known()))


def mask_values(value: Any) -> Any:
    """
    A value without secrets, to be written as JSON or else.

    Args:
        value: dictionaries, lists and tuples of any depth. Texts in them are masked, and what stands under the name of
            a secret; names, numbers and other objects stay.
    """
    return _mask_values(value, False, _pattern(_known()))


def mask_words(words: Sequence[str]) -> list[str]:
    """
    The words of a command line without secrets.

    >>> mask_words(["--hub-token", "abc", "--seed", "1"])
    ['--hub-token', 'not-published', '--seed', '1']
    """
    masked, is_secret = [], False
    for word in words:
        if word.startswith("--"):
            flag, equals, word = word.partition("=")
            is_secret = is_secret_name(flag)
            masked.append(mask_text(flag) + equals + (_mask_word(word, is_secret) if equals else ""))
        else:
            masked.append(_mask_word(word, is_secret))
    return masked


def mask_logs() -> None:
    """What this process logs and warns of is without secrets from now on, tracebacks too."""
    make_record, format_warning = logging.getLogRecordFactory(), warnings.formatwarning
    if getattr(make_record, "masks", False):
        return

    def make_masked_record(*args, **kwargs) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        with contextlib.suppress(Exception):  # arguments that do not fit the message: its handler reports that
            message = record.getMessage()
            masked = mask_text(message)
            if masked != message:
                record.msg, record.args = masked, None
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            masked = mask_text(text)
            if masked != text:  # otherwise the handler writes it in its own way
                record.exc_text = masked
        return record

    make_masked_record.masks = True
    logging.setLogRecordFactory(make_masked_record)
    warnings.formatwarning = lambda *args, **kwargs: mask_text(format_warning(*args, **kwargs))


@contextlib.contextmanager
def masking_errors() -> Iterator[None]:
    """An error that leaves this context says nothing secret, and neither does what it was raised from."""
    try:
        yield
    except Exception as error:
        _mask_error(error, set())
        raise


def _mask_error(error: BaseException | None, seen: set[int]) -> None:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    error.args = tuple(mask_text(arg) if isinstance(arg, str) else arg for arg in error.args)
    if hasattr(error, "__notes__"):
        error.__notes__ = [mask_text(note) for note in error.__notes__]
    others = [arg for arg in error.args if isinstance(arg, BaseException)]  # as the errors of `requests` have them
    for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ()), *others):
        _mask_error(other, seen)


def _known() -> frozenset[str]:
    """The environment's secrets are looked up each time: a recipe sets variables (`env`), and logins change."""
    found = set(_secrets_in(dict(os.environ)))
    login = get_token()
    return frozenset(_remembered | found | ({login} if login else set()))


def _secrets_in(value: Any, is_secret: bool = False) -> Iterator[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _secrets_in(item, is_secret or is_secret_name(str(name)))
    elif isinstance(value, list | tuple | set):
        before = None  # words of a command line: `["--api-key", "abc"]`
        for item in value:
            is_flag = isinstance(before, str) and before.startswith("--")
            yield from _secrets_in(item, is_secret or (is_flag and is_secret_name(before)))
            before = item
    elif type(value) is int and is_secret:
        yield str(value)
    elif isinstance(value, str):
        yield from _parts(value) if is_secret else _secrets_in(_parse_dict(value))
        for address in _IN_ADDRESS.findall(value):
            yield from _parts(address.partition(":")[2] or address)
        for name, part in _IN_QUERY.findall(value):
            yield from _parts(part) if is_secret_name(name) else ()


def _parts(secret: str) -> Iterator[str]:
    """A secret, and what of it may stand alone: its lines, the token behind `Bearer`."""
    secret = secret.strip()
    yield secret
    yield unquote(secret)
    for line in secret.splitlines():
        if len(line.strip()) >= _NUM_CHARS_ANYWHERE:
            yield line.strip()
    scheme, _, token = secret.partition(" ")
    if scheme.lower() in ("bearer", "basic", "token"):
        yield token.strip()


def _parse_dict(text: str) -> dict | None:
    """A dictionary written as JSON, as the command line gives it."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _spellings(secret: str) -> set[str]:
    """A text as it may stand in JSON, Python, HTML, an address, or a header."""
    as_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    as_html = {html.escape(secret), html.escape(secret, quote=False), html.escape(secret).replace("&quot;", "&#34;")}
    as_html |= {text.replace("&#x27;", "&#39;") for text in as_html}
    in_address = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    in_header = {base64.b64encode(secret.encode(errors="surrogatepass")).decode()}
    return {secret, repr(secret)[1:-1]} | as_json | as_html | in_address | in_header


@functools.lru_cache(maxsize=16)
def _pattern(secrets: frozenset[str]) -> re.Pattern | None:
    spellings = set()
    for secret in secrets:
        is_plain = _PLAIN.fullmatch(secret) or (os.path.isabs(secret) and os.path.exists(secret))
        if len(secret) >= _NUM_CHARS_AS_WORD and not is_plain:
            spellings |= _spellings(secret)
    if not spellings:
        return None
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return re.compile(
        "|".join(
            re.escape(spelling)
            if len(spelling) >= _NUM_CHARS_ANYWHERE
            else rf"(?<![^\W_]){re.escape(spelling)}(?![^\W_])"
            for spelling in longest_first
        )
    )


def _mask_text(text: str, pattern: re.Pattern | None) -> str:
    if "@" in text:
        text = _IN_ADDRESS.sub(NOT_PUBLISHED, text)
    if "=" in text:
        text = _IN_QUERY.sub(_mask_parameter, text)
    return pattern.sub(NOT_PUBLISHED, text) if pattern else text


def _mask_parameter(match: re.Match) -> str:
    return f"{match[1]}={NOT_PUBLISHED}" if is_secret_name(match[1]) else match[0]


def _mask_values(value: Any, is_secret: bool, pattern: re.Pattern | None) -> Any:
    if isinstance(value, dict):
        return {
            name: _mask_values(item, is_secret or is_secret_name(str(name)), pattern) for name, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(_mask_values(item, is_secret, pattern) for item in value)
    if type(value) is int and is_secret:
        return NOT_PUBLISHED
    if type(value) is str:  # not the members of an enumeration, which are texts too
        return NOT_PUBLISHED if is_secret and value else _mask_text(value, pattern)
    return value


def _mask_word(word: str, is_secret: bool) -> str:
    if is_secret:
        return NOT_PUBLISHED
    parsed = _parse_dict(word)
    masked = mask_values(parsed)
    return mask_text(word) if parsed == masked else json.dumps(masked, ensure_ascii=False)
