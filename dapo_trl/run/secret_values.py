"""
Keeps access tokens, keys and passwords out of everything that a run writes.

Secrets are known by their *values*: those of settings and environment variables whose name says so, at any depth; user
and password in an address; the login of the Hub. A value is masked as it is or as JSON, Python, HTML and addresses
spell it: from 8 characters on anywhere, from 4 on as a word of its own. Shorter and ordinary ones (see `_ORDINARY`),
and paths that exist, only under such a name: masking them elsewhere would make a text unreadable.
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
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

from huggingface_hub import get_token


NOT_PUBLISHED = "not-published"  # stands for a secret

# Names, as lower-case words with spaces between them.
_OF_SECRETS = re.compile(
    r"(token|(key|secret|password|passwd|passphrase|credential|authorization)s?)$|\b(auth|cookies?|jwt|pass|pat)$"
    r"|\w pwd$|\b(access|api|auth|bearer|hf|hub|user) tokens$"
    r"|\b(secret|password|passwd|passphrase|connection string|(access|api|private) key|(access|auth|hf|hub) token)\b"
)
_OF_OTHERS = re.compile(  # what is said of a secret; words of a vocabulary; columns of a table
    r"\b(dir|env|file|id|length|name|path|type|url)$"
    r"|\b(additional|audio|begin|bos|bot|cls|end|eos|eot|image|mask|pad|sep|special|start|stop|think|unk|video"
    r"|answer|cache|column|label|problem|prompt|solution|sort) \w+$"
)
# Values: words of up to 7 letters, numbers of up to 7 digits, special tokens, variables, placeholders.
_ORDINARY = re.compile(
    r"[a-z]{1,7}|[A-Z]{1,7}|[A-Z][a-z]{1,6}|\d{1,7}|<[^<>]*>|\[[^\[\]]*\]|\$\{?\w+\}?"
    rf"|localhost|password|placeholder|{NOT_PUBLISHED}"
)
# User and password in an address; a parameter in its query.
_IN_ADDRESS = re.compile(r"(?<=://)[^/?#\s\"'<>`\\]+(?=@)")
_IN_QUERY = re.compile(r"(?<=[?&])([\w.-]+)=([^&#\s\"'<>`\\]+)")

_remembered: set[str] = set()


@functools.cache
def is_secret_name(name: str) -> bool:
    """Whether a setting, a flag or an environment variable holds a secret, by its name in any case of letters."""
    words = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()
    is_measure = "@" in name  # pass@8
    return not is_measure and not _OF_OTHERS.search(words) and bool(_OF_SECRETS.search(words))


def remember(*parts: Any) -> None:
    """Notes the secrets in settings (dataclasses, dictionaries, lists, texts): from now on this process masks them."""
    for part in parts:
        is_settings = dataclasses.is_dataclass(part) and not isinstance(part, type)
        _remembered.update(_secrets_in(vars(part) if is_settings else part))


def mask_text(text: str) -> str:
    """`http://me:pa55word@host/v1?api_key=abc` becomes `http://not-published@host/v1?api_key=not-published`."""
    return _mask_text(text, _known())


def mask_values(value: Any) -> Any:
    """Masks texts in dictionaries, lists and tuples of any depth, and all under the name of a secret."""
    known = _known()
    return _map_texts(value, lambda text, is_secret: NOT_PUBLISHED if is_secret and text else _mask_text(text, known))


def mask_words(words: Sequence[str]) -> list[str]:
    """`--hub-token abc --seed 1` becomes `--hub-token not-published --seed 1`."""
    masked, is_secret = [], False
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        is_secret = is_secret_name(flag) if flag else is_secret
        settings = _parse_dict(value)
        if is_secret and (equals or not flag):
            value = NOT_PUBLISHED
        elif settings != mask_values(settings):
            value = json.dumps(mask_values(settings), ensure_ascii=False)
        masked.append(mask_text(flag) + equals + mask_text(value))
    return masked


@functools.cache  # once in a process
def mask_logs() -> None:
    """What this process logs and warns of is without secrets from now on, tracebacks too."""
    make_record, format_warning = logging.getLogRecordFactory(), warnings.formatwarning

    def make_masked_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        with contextlib.suppress(Exception):  # arguments that do not fit the message: its handler reports that
            message = record.getMessage()
            if mask_text(message) != message:  # otherwise a formatter may want the arguments
                record.msg, record.args = mask_text(message), None
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            if mask_text(text) != text:  # otherwise the handler writes it in its own way
                record.exc_text = mask_text(text)
        return record

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


def _mask_error(error: Any, seen: set[int]) -> None:
    if not isinstance(error, BaseException) or id(error) in seen:
        return
    seen.add(id(error))
    error.args = tuple(mask_text(arg) if isinstance(arg, str) else arg for arg in error.args)
    if hasattr(error, "__notes__"):
        error.__notes__ = [mask_text(note) for note in error.__notes__]
    # Errors of `requests` have others in their arguments.
    for other in (*error.args, *getattr(error, "exceptions", ()), error.__cause__, error.__context__):
        _mask_error(other, seen)


def _map_texts(value: Any, change: Callable[[str, bool], str], is_secret: bool = False) -> Any:
    """Rebuilds dictionaries, lists and tuples; `change` gets each text, and whether a name says that it is secret."""
    if isinstance(value, dict):
        return {name: _map_texts(item, change, is_secret or is_secret_name(str(name))) for name, item in value.items()}
    if type(value) in (list, tuple):
        is_flag = [isinstance(word, str) and word.startswith("--") and is_secret_name(word) for word in ("", *value)]
        return type(value)(_map_texts(item, change, is_secret or is_flag[i]) for i, item in enumerate(value))
    if type(value) is str or (type(value) is int and is_secret):  # not the members of an enumeration
        return change(str(value), is_secret)
    return value


def _parse_dict(text: str) -> dict | None:
    """A dictionary written as JSON, as the command line gives it."""
    with contextlib.suppress(ValueError):
        value = json.loads(text) if text.lstrip().startswith("{") else None
        return value if isinstance(value, dict) else None
    return None


def _secrets_in(value: Any) -> set[str]:
    found: set[str] = set()

    def collect(text: str, is_secret: bool) -> str:
        secrets = [text] if is_secret else []
        secrets += [address.partition(":")[2] or address for address in _IN_ADDRESS.findall(text)]
        secrets += [part for name, part in _IN_QUERY.findall(text) if is_secret_name(name)]
        for secret in map(str.strip, secrets):
            bare = re.sub(r"(?i)^(bearer|basic|token)\s+", "", secret)  # as a header has it
            found.update((secret, bare, unquote(bare), *map(str.strip, bare.splitlines())))
        found.update(_secrets_in(_parse_dict(text)))
        return text

    _map_texts(value, collect)
    return found


def _known() -> re.Pattern:
    """The environment's secrets are looked up each time: a recipe sets variables (`env`), and logins change."""
    return _pattern(frozenset(_remembered | _secrets_in({**os.environ, "hub_token": get_token()})))


@functools.lru_cache(maxsize=16)
def _pattern(secrets: frozenset[str]) -> re.Pattern:
    alternatives = []
    for secret in sorted(secrets, key=len, reverse=True):
        is_path = os.path.isabs(secret) and os.path.exists(secret)
        if len(secret) < 4 or is_path or _ORDINARY.fullmatch(secret):
            continue
        spelled = "".join(map(_spellings, secret))
        alternatives.append(spelled if len(secret) >= 8 else rf"(?<![^\W_]){spelled}(?![^\W_])")
        alternatives.append(re.escape(base64.b64encode(secret.encode(errors="surrogatepass")).decode()))
    return re.compile("|".join(alternatives) or r"(?!)")


def _spellings(char: str) -> str:
    """A pattern of a character as JSON, Python, HTML and addresses spell it."""
    if char.isascii() and char.isalnum():
        return char
    spelled = {char, json.dumps(char)[1:-1], repr(char)[1:-1], quote(char, safe="", errors="surrogatepass")}
    spelled |= {html.escape(char), f"&#{ord(char)};", f"&#x{ord(char):x};"}
    spelled |= {"'": {"\\'"}, " ": {"+"}}.get(char, set())
    return f"(?:{'|'.join(re.escape(one) for one in sorted(spelled, key=len, reverse=True))})"


def _mask_text(text: str, known: re.Pattern) -> str:
    if "@" in text:
        text = _IN_ADDRESS.sub(NOT_PUBLISHED, text)
    if "=" in text:
        text = _IN_QUERY.sub(
            lambda match: f"{match[1]}={NOT_PUBLISHED}" if is_secret_name(match[1]) else match[0], text
        )
    return known.sub(NOT_PUBLISHED, text)
