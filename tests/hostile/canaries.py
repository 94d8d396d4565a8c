"""Canary credentials and a canary learner, and the search for them in everything that leaves the function."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Each holds characters that look different in a URL, in JSON and in Base64, so that each form is a text of its own.
TENANT = "eu-west-2_Canary+Tenant/7f"
CLIENT_ID = "canary client+id/9d:1e"
SECRET = 'canary-s\u00e9cret+/"\\&=%5b 2'
OTHER_SECRET = 'canary-\u00f6ther+/"\\&=%6c 3'
TOKENS = tuple(f"canary-token-{number}.e7~+/Zm9v==" for number in range(1, 10))
NAME = "Ada Can\u00e4rylovelace"
EMAIL = "canary.ada@learner.example"

CREDENTIALS: dict[str, str] = {
    "tenantId": TENANT,
    "clientId": CLIENT_ID,
    "clientSecret": SECRET,
    "apiSecret": OTHER_SECRET,
    **{f"access token {number}": token for number, token in enumerate(TOKENS, 1)},
}
LEARNER: dict[str, str] = {"name": NAME, "e-mail": EMAIL}
ALL = CREDENTIALS | LEARNER


def _json_as_is(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _as_bytes(text: str) -> str:
    return repr(text.encode())[1:]


def _forms(value: str) -> Iterator[str]:
    """Give the texts as which a value may show itself."""
    # A log line may quote an answer that quotes a message: JSON in JSON in the text of a bytes object.
    level = {value}
    for _ in range(4):
        yield from level
        level = {write(text)[1:-1] for text in level for write in (json.dumps, _json_as_is, ascii, repr, _as_bytes)}
    yield from (quote(value), quote(value, safe=""), quote_plus(value), quote(value, safe="/ "))
    raw = value.encode()
    yield raw.hex()
    # Base64 of anything that holds it, whatever stands before: three alignments, less what the neighbours touch.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * shift + raw).decode()
            yield whole[(shift * 4 + 2) // 3 + (shift > 0) : len(whole.rstrip("=")) - 1]


FORMS: dict[str, frozenset[str]] = {name: frozenset(_forms(value)) for name, value in ALL.items()}


def found(text: str, *, allowed: Iterable[str] = ()) -> set[str]:
    """Give the names of the canaries that a text holds in any form, save those that may stand there."""
    allowed = set(allowed)
    return {name for name, forms in FORMS.items() if name not in allowed and any(form in text for form in forms)}


def shown(error: BaseException, *, hidden_too: bool = True) -> str:
    """Give all that anything could show of an error: text, arguments, attributes, notes, traceback, and the chain.

    :param hidden_too: go on to a context that ``from None`` hides from every traceback.
    """
    texts: list[str] = []
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        link = queue.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        texts += [str(link), repr(link), repr(link.args), repr(vars(link)), *getattr(link, "__notes__", [])]
        texts += traceback.format_exception(link)
        queue.append(link.__cause__)
        if hidden_too or not link.__suppress_context__:
            queue.append(link.__context__)
    return "\n".join(texts)


# The libraries whose loggers see URLs, headers and bodies.
LIBRARIES = ("urllib3", "botocore", "boto3")


def debug_everything() -> None:
    """Set all loggers that matter to DEBUG, as somebody might before the function builds its application."""
    for name in ("", *LIBRARIES):
        logging.getLogger(name).setLevel(logging.DEBUG)


class _Recorder(logging.Handler):
    """Keeps every record with all that hangs on it, as the most careless handler would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.args!r} {vars(record)!r}")
        if record.exc_info and record.exc_info[1]:
            self.texts.append(shown(record.exc_info[1]))


@dataclass
class Watch:
    """Catches standard output, standard error and every log record of every logger while it is entered.

    The root logger is set to DEBUG, and every library has a handler of its own. ``loggers`` names further ones that do
    not hand their records on to the root logger.
    """

    loggers: tuple[str, ...] = ()
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)
    handler: _Recorder = field(default_factory=_Recorder)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._stack.enter_context(contextlib.redirect_stdout(self.out))
        self._stack.enter_context(contextlib.redirect_stderr(self.err))
        root = logging.getLogger()
        self._stack.callback(root.setLevel, root.level)
        root.setLevel(logging.DEBUG)
        for name in ("", *LIBRARIES, "aws_lambda_powertools", *self.loggers):
            logger = logging.getLogger(name)
            self._stack.callback(logger.removeHandler, self.handler)
            logger.addHandler(self.handler)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, *texts: str) -> None:
        """Add texts to what was caught."""
        self.handler.texts += texts

    def text(self) -> str:
        """Give all that was caught."""
        return "\n".join([self.out.getvalue(), self.err.getvalue(), *self.handler.texts])


def secret_text(**changes: object) -> str:
    """Give the canary secret; a field changed to None is left out."""
    fields: Mapping[str, Any] = {"tenantId": TENANT, "clientId": CLIENT_ID, "clientSecret": SECRET} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})
