"""What can be made to go wrong, for which requests, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FaultRoute = Literal["token", "completion", "user", "connection"]
Spoil = Literal["empty", "html", "not_json", "wrong_type", "huge", "gzip", "gzip_bomb"]
Ending = Literal["answer", "reset", "close", "close_after_headers", "truncate", "endless", "black_hole"]

_WITHOUT_ANSWER = frozenset({"reset", "close", "black_hole"})


class BadFaultError(ValueError):
    """A fault description that makes no sense: which field, and what is allowed there."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"{name}: {allowed}")
        self.field = name
        self.allowed = allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Sends the head or the body in pieces: `size` bytes, then `interval` seconds of silence, and so on."""

    part: Literal["headers", "body"]
    size: int = 1
    interval: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Which requests: those on `route` (None: any request) for exactly `user_id` and `content_id` (completions only);
    the first `skip` of them pass unharmed; of the rest each one is hit with `probability`, until `times` were hit
    (None: no limit). It is in force from `starts_in` seconds after it was added, for `lasts` seconds (None: for good).
    The route `connection` means the moment a connection is accepted; of the rest only `ending` applies there.

    What happens, in this order:

    1. `revoke_token`: the request's bearer token is bad from now on.
    2. The request is handled for real (a completion goes into the ledger) if `commit` says so. None decides by what
       the client sees: handled if the genuine status is sent, not handled if `status` replaces it or nothing is sent.
    3. `status` (100 to 599, with an Error body unless told otherwise), `headers` (added, or set anew),
       `drop` and `patch` (members of the genuine JSON object), `body` (any text) or `spoil` (a ready-made bad body)
       replace parts of the answer.
    4. `delay` seconds pass.
    5. The `ending` comes: `answer` (sent in full), `reset` (RST, nothing sent), `close` (FIN, nothing sent),
       `close_after_headers`, `truncate` (half the body, then FIN), `endless` (a body that never stops),
       `black_hole` (silence until the client gives up). `drip` slows the sending down.
    """

    route: FaultRoute | None = None
    user_id: str | None = None
    content_id: str | None = None
    times: int | None = 1
    skip: int = 0
    starts_in: float = 0.0
    lasts: float | None = None
    probability: float = 1.0

    commit: bool | None = None
    revoke_token: bool = False
    delay: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    spoil: Spoil | None = None
    patch: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    ending: Ending = "answer"
    drip: Drip | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant (BadFaultError)."""
        for name, (is_allowed, allowed) in _ALLOWED.items():
            if not is_allowed(getattr(self, name)):
                raise BadFaultError(name, allowed)
        if self.body is not None and self.spoil is not None:
            raise BadFaultError("spoil", "not together with body")
        if self.commit is False and self.status is None and self.ending not in _WITHOUT_ANSWER:
            raise BadFaultError("commit", "false only with a status, or with the ending reset, close or black_hole")
        if self.route == "connection" and self.ending not in _WITHOUT_ANSWER:
            raise BadFaultError("ending", "reset, close or black_hole on the route connection")
        if (self.user_id is not None or self.content_id is not None) and self.route not in (None, "completion"):
            raise BadFaultError("route", "completion, when user_id or content_id is given")

    @property
    def handles_request(self) -> bool:
        """Whether the request is handled for real before things go wrong."""
        if self.commit is not None:
            return self.commit
        return self.status is None and self.ending not in _WITHOUT_ANSWER

    def concerns(self, route: str, payload: Any) -> bool:
        """Tell whether a request is one of those the fault is about; `payload` is a completion's JSON value."""
        if self.route != route and (self.route is not None or route == "connection"):
            return False
        if self.user_id is None and self.content_id is None:
            return True
        if not isinstance(payload, dict):
            return False
        return all(
            wanted is None or payload.get(name) == wanted
            for name, wanted in (("userId", self.user_id), ("contentId", self.content_id))
        )


def _is_int(value: Any, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_seconds(value: Any) -> bool:
    # Not bool, although that is an int; NaN fails the comparison.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_drip(value: Any) -> bool:
    return value is None or (
        isinstance(value, Drip)
        and value.part in ("headers", "body")
        and _is_int(value.size, 1)
        and _is_seconds(value.interval)
    )


def _is_header(name: Any, value: Any) -> bool:
    # A line break would forge further headers, and aiohttp refuses it only when it is too late to say so.
    return isinstance(name, str) and name != "" and isinstance(value, str) and not set(name + value) & set("\r\n\0")


def _one_of(values: tuple[str, ...], default: str) -> str:
    return f"one of {', '.join(values)}; {default} when left out"


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "route": (
        lambda value: value is None or value in get_args(FaultRoute),
        _one_of(get_args(FaultRoute), "any request"),
    ),
    "user_id": (_is_text, "a string"),
    "content_id": (_is_text, "a string"),
    "times": (lambda value: value is None or _is_int(value, 1), "a whole number from 1, or null for no limit"),
    "skip": (lambda value: _is_int(value, 0), "a whole number from 0"),
    "starts_in": (_is_seconds, "seconds from 0"),
    "lasts": (lambda value: value is None or _is_seconds(value), "seconds from 0, or null for good"),
    "probability": (lambda value: _is_seconds(value) and value <= 1, "a number from 0 to 1"),
    "commit": (lambda value: value is None or _is_flag(value), "true, false or null"),
    "revoke_token": (_is_flag, "true or false"),
    "delay": (_is_seconds, "seconds from 0"),
    "status": (lambda value: value is None or _is_int(value, 100, 599), "a whole number from 100 to 599"),
    "headers": (
        lambda value: hasattr(value, "items") and all(_is_header(*item) for item in value.items()),
        "an object of strings without line breaks",
    ),
    "body": (lambda value: isinstance(value, bytes) or _is_text(value), "a string"),
    "spoil": (lambda value: value is None or value in get_args(Spoil), _one_of(get_args(Spoil), "none")),
    "patch": (lambda value: hasattr(value, "items"), "an object"),
    "drop": (
        lambda value: isinstance(value, tuple) and all(isinstance(name, str) for name in value),
        "a list of strings",
    ),
    "ending": (lambda value: value in get_args(Ending), _one_of(get_args(Ending), "answer")),
    "drip": (_is_drip, 'an object {"part": "headers" or "body", "size": bytes from 1, "interval": seconds from 0}'),
}
