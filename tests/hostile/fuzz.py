"""A coverage-guided fuzzer over the same worlds and oracles as the property tests.

    python -m tests.hostile.fuzz --seconds 60 --target record|event|answer|token|retry-after|secret

It needs atheris, which is no part of the development environment: ``.venv/bin/pip install atheris``; its wheels are for
Linux on x86-64 alone. What breaks an oracle is printed, and its input is written to ``build/fuzz``: give that file as
an argument to see it again. A finding becomes a test in ``test_fuzz_findings.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import atheris
except ImportError:
    sys.exit("The fuzzer needs atheris: pip install atheris")

# The oracles and the fakes need no coverage; the package and what it parses with do.
with atheris.instrument_imports(include=["completion_sync", "http.client", "email", "urllib3", "json"]):
    from completion_sync import bootstrap, handler  # noqa: F401 - imported here so that they are instrumented
    from completion_sync.clock import Instant
    from completion_sync.retry import MAX_VISIBILITY_SECONDS, parse_retry_after

import tests.hostile.conftest  # noqa: F401 - registers the profiles that the tests ask for
from tests.hostile import oracles
from tests.hostile.test_answers import judge_garbage_answer, judge_garbage_token
from tests.hostile.test_records import hostile, judge_event
from tests.hostile.test_secret import judge_secret
from tests.hostile.worlds import Bytes, WireWorld, World
from tests.support.fakes import body, eventbridge_event, secret_text, sns_notification, token_response

_ENDS = ("keep", "end", "reset")


def _text(data: bytes) -> str:
    """Give the text that these bytes stand for: lone surrogates where they are no UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def _record(world: World, data: bytes) -> None:
    oracles.judge_record(world, hostile(_text(data)))


def _event(world: World, data: bytes) -> None:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return
    judge_event(world, event)


def _answer(world: WireWorld, data: bytes) -> None:
    judge_garbage_answer(world, _wire(data))


def _token(world: WireWorld, data: bytes) -> None:
    judge_garbage_token(world, _wire(data))


def _wire(data: bytes) -> Bytes:
    choice = data[-1] if data else 0
    return Bytes(data[:-1], _ENDS[choice % 3], 1 + choice if choice > 200 and len(data) < 2000 else 1 << 20)


def _retry_after(_world: None, data: bytes) -> None:
    seconds = parse_retry_after(data.decode("latin-1"), Instant(1_800_000_000.0, 0.0))
    assert seconds is None or 0 < seconds <= MAX_VISIBILITY_SECONDS


def _secret(world: World, data: bytes) -> None:
    judge_secret(world, _text(data))


_GOOD_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
_SEEDS: dict[str, list[bytes]] = {
    "record": [
        body().encode(),
        json.dumps(eventbridge_event()).encode(),
        json.dumps(sns_notification(body())).encode(),
        json.dumps(sns_notification(eventbridge_event())).encode(),
    ],
    "event": [json.dumps(eventbridge_event()).encode(), b'{"Records": [{"eventSource": "aws:sqs", "messageId": "m"}]}'],
    "answer": [
        _GOOD_ANSWER + b'{"statementId":"s-1"}\x01',
        b"HTTP/1.1 429 x\r\nRetry-After: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n\x01",
        b'HTTP/1.0 422 x\r\n\r\n{"message": "a@b.example is unknown"}\x01',
    ],
    "token": [b"HTTP/1.1 200 OK\r\nContent-Length: 94\r\n\r\n" + (token_response().body or b"") + b"\x01"],
    "retry-after": [b"120", b"1.5", b"Fri, 31 Dec 1999 23:59:59 GMT", b"Sun Nov  6 08:49:37 2094", b"+0000"],
    "secret": [secret_text(clientId="c", authMethod="basic", tokenEndpointAuthMethod="client_secret_basic").encode()],
}
_TARGETS: dict[str, tuple[Callable[[Any, bytes], None], Callable[[], Any]]] = {
    "record": (_record, World),
    "event": (_event, World),
    "answer": (_answer, WireWorld),
    "token": (_token, WireWorld),
    "retry-after": (_retry_after, lambda: None),
    "secret": (_secret, World),
}


def main() -> None:
    """Fuzz one target for a while; libFuzzer ends the process, with another code than 0 where it found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--target", choices=_TARGETS, default="record")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept that reach new code; else forgotten")
    parser.add_argument("inputs", nargs="*", help="files to run instead, once each")
    options = parser.parse_args()
    work, make_world = _TARGETS[options.target]
    world = make_world()

    def once(data: bytes) -> None:
        work(world, data)

    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(_SEEDS[options.target]):
            (corpus / f"seed-{number}").write_bytes(seed)
        flags = [f"-max_total_time={options.seconds}", "-max_len=4096", "-print_final_stats=1", "-rss_limit_mb=0"]
        findings = Path("build/fuzz")
        findings.mkdir(parents=True, exist_ok=True)
        flags += [f"-artifact_prefix={findings}/{options.target}-", "-timeout=20"]
        atheris.Setup([sys.argv[0], *flags, *(options.inputs or [str(corpus)])], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
