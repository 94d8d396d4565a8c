"""Canaries: made-up credentials and a made-up learner that tests plant everywhere, and the search for them in output.

Each value is one distinctive word (`canary…`) among characters that URLs, JSON and logs write in different ways. The
code under test has to recognise the whole value in any spelling; the search only looks for the word, which every such
spelling leaves alone, and for its forms in hexadecimal and Base64.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import re
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

TENANT = "eu-west-2_canaryTenant+/7f"
CLIENT_ID = "canaryClient id+/9d:1e"
SECRET = 's\u00e9cret+/"\\&=%5b canarySecret 2'
NEW_SECRET = '\u00f6ther+/"\\&=%6c canaryRotated 3'
TOKENS = tuple(f"canaryToken{number}.e7~+/Zm9v==" for number in range(1, 10))
NAME = "Ada canaryLovelace-Caf\u00e9"
EMAIL = "canaryAda@learner.example"
REFERENCE = "E/7 canaryReference+\u00fc"

LEARNER = {"name": NAME, "e-mail": EMAIL, "reference": REFERENCE}
CREDENTIALS = {"tenant id": TENANT, "client id": CLIENT_ID, "secret": SECRET, "new secret": NEW_SECRET}
CREDENTIALS |= {f"token {number}": token for number, token in enumerate(TOKENS, 1)}
CANARIES = CREDENTIALS | LEARNER

LIBRARIES = ("urllib3", "botocore", "boto3")


def secret_text(**changes: object) -> str:
    """Return the secret that holds the canary credentials; a field changed to None is left out."""
    fields: dict[str, object] = {"tenantId": TENANT, "clientId": CLIENT_ID, "clientSecret": SECRET}
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None})


def found(text: str, *, allowed: Collection[str] = ()) -> set[str]:
    """Return the names of the canaries that occur in a text in any form, except those that may."""
    return {name for name, forms_ in _FORMS.items() if name not in allowed and any(form in text for form in forms_)}


def forms(word: str) -> tuple[str, ...]:
    """Return the forms in which a word of ASCII letters and digits may occur: plain, hexadecimal, Base64."""
    raw = word.encode()
    # Base64 of a text that contains the word: there are three ways in which it can be aligned. Only the characters that
    # the word alone determines are compared.
    aligned = (
        base64.b64encode(b"x" * shift + raw + b"xx").decode()[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        for shift in range(3)
    )
    return (word, raw.hex(), *aligned)


_FORMS = {name: forms(re.findall(r"canary[A-Za-z0-9]+", value)[0]) for name, value in CANARIES.items()}


def everything_about(*errors: BaseException | None, suppressed: bool = True) -> str:
    """Return everything that a log or a debugger could show of errors: text, attributes, notes, traceback, chain.

    :param suppressed: include a context that ``raise … from None`` suppresses: it is not printed, but still attached.
    """
    texts: list[str] = []
    queue, seen = [*errors], set[int]()
    while queue:
        link = queue.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        texts += [str(link), repr(link), repr(link.args), repr(vars(link)), *traceback.format_exception(link)]
        queue += [link.__cause__, None if link.__suppress_context__ and not suppressed else link.__context__]
    return "\n".join(texts)


class Recording(logging.Handler):
    """What was written to standard output and standard error, and every log record with all its attributes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.out, self.err = io.StringIO(), io.StringIO()
        self._records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as the most careless formatter would write it."""
        error = record.exc_info[1] if record.exc_info else None
        self._records.append(f"{record.getMessage()} {vars(record)!r} {everything_about(error)}")

    def text(self) -> str:
        return "\n".join([self.out.getvalue(), self.err.getvalue(), *self._records])


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record standard output, standard error and all logging, with the root logger at DEBUG."""
    record, root = Recording(), logging.getLogger()
    # Powertools' own logger does not propagate to the root logger.
    loggers = [root, logging.getLogger("aws_lambda_powertools")]
    level, handlers = root.level, [logger.handlers for logger in loggers]
    with contextlib.redirect_stdout(record.out), contextlib.redirect_stderr(record.err):
        root.setLevel(logging.DEBUG)
        for logger in loggers:
            # Replaced, not added: pytest's own handlers would keep the logs of thousands of cases.
            logger.handlers = [record]
        try:
            yield record
        finally:
            for logger, kept in zip(loggers, handlers, strict=True):
                logger.handlers = kept
            root.setLevel(level)
