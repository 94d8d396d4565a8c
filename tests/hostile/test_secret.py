"""Any secret: valid credentials, or a refusal in words of ours that hold no value of it."""

from __future__ import annotations

import itertools
import json
import re
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.credentials import Credentials
from completion_sync.errors import AccessError
from tests.hostile import shapes
from tests.hostile.cases import cases
from tests.hostile.oracles import NEIGHBOURS, assert_answer, assert_log, neighbour
from tests.support.fakes import sqs_event, texts_of

if TYPE_CHECKING:
    from tests.hostile.worlds import World

_KEYS = ("tenantId", "clientId", "clientSecret", "apiSecret", "clientSecret or apiSecret")
_PROBLEMS = (
    "is missing",
    "must be a text of 1 to 1024 characters",
    "still holds the placeholder; put the value that Thrive issued",
    "must not hold control characters, or white space at either end",
)
# All that a refusal can say. As it is one of these, whatever the secret holds, no value of it can be in there.
REFUSALS = {f"the secret is malformed: {key}: {problem}" for key, problem in itertools.product(_KEYS, _PROBLEMS)} | {
    "the secret is malformed: must be a JSON object in SecretString, with tenantId and clientSecret",
    "the secret is malformed: tenantId: must not hold a colon with authMethod basic (RFC 7617)",
    "the secret is malformed: authMethod: must be oauth2 or basic",
    "the secret is malformed: tokenEndpointAuthMethod: must be client_secret_post or client_secret_basic",
}


def credentials_in(secret: object) -> tuple[str, str, str, str, str] | None:
    """Say a second time what a secret holds, from the README's table: None where it is malformed."""
    try:
        fields = json.loads(secret) if isinstance(secret, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    given = {key: value for key, value in fields.items() if value is not None}
    tenant = given.get("tenantId")
    password = given.get("clientSecret", given.get("apiSecret"))
    client = given.get("clientId", tenant)
    kind = given.get("authMethod", "oauth2")
    post = given.get("tokenEndpointAuthMethod", "client_secret_post")
    if not (is_good(tenant) and is_good(password) and is_good(client)):
        return None
    if kind not in ["oauth2", "basic"] or post not in ["client_secret_post", "client_secret_basic"]:
        return None
    return None if kind == "basic" and ":" in tenant else (tenant, client, password, kind, post)


def is_good(value: Any) -> bool:
    """Tell whether a value may stand in a credential."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 1024
        and value != "REPLACE_ME"
        and not value[0].isspace()
        and not value[-1].isspace()
        and not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value)
    )


@cases(900)
@given(shapes.secrets)
def test_any_secret_is_read_or_refused_in_our_words(secret: object) -> None:
    """A secret gives the credentials that it holds, or an error that says which key and nothing of its value."""
    expected = credentials_in(secret)
    if expected:
        parsed = Credentials.parse(secret)
        assert expected == (
            parsed.tenant_id,
            parsed.client_id,
            parsed.client_secret,
            parsed.auth_method,
            parsed.token_endpoint_auth_method,
        )
        return
    with pytest.raises(AccessError) as caught:
        Credentials.parse(secret)
    error = caught.value
    assert error.reason == "misconfigured"
    assert str(error) in REFUSALS
    assert error.args == (str(error),)
    assert error.__cause__ is None
    assert error.__context__ is None, "a JSONDecodeError behind it would hold the whole secret"
    assert vars(error) == {"detail": str(error), "status": None, "reason": "misconfigured", "retry_after": None}


@cases(500)
@given(st.one_of(shapes.secrets, shapes.secret_objects.map(shapes.dumped)))
def test_any_secret_through_the_whole_function(world: World, secret: str | bytes | None) -> None:
    """With any secret a batch is recorded, or deferred as misconfigured: never rejected, never an exception."""
    judge_secret(world, secret)


def judge_secret(world: World, secret: str | bytes | None) -> None:
    """Hold a batch that was sent with this secret against the table."""
    world.fresh()
    world.secrets.secret = secret if isinstance(secret, str) else None
    world.secrets.binary = secret if isinstance(secret, bytes) else None
    seen = world.invoke(sqs_event(*(neighbour(name) for name in NEIGHBOURS)))
    assert seen.error is None
    assert_log(seen)
    if credentials_in(secret):
        assert seen.outcomes == dict.fromkeys(NEIGHBOURS, ("created", None))
        assert_answer(seen.answer, set(NEIGHBOURS), set())
        return
    assert seen.outcomes == dict.fromkeys(NEIGHBOURS, ("deferred", "misconfigured"))
    assert_answer(seen.answer, set(NEIGHBOURS), set(NEIGHBOURS))
    assert {line["message"] for line in seen.messages.values()} <= {f"deferred: {text}" for text in REFUSALS}
    assert not world.thrive.requests


CANARY = "canary-4c1d"
_AROUND = ("{}", " {}", "{}\n", "\x00{}", "{}" * 100, "REPLACE_ME{}", "{}\ud800")


@cases(300)
@given(
    st.dictionaries(
        st.sampled_from(shapes.SECRET_KEYS),
        st.one_of(
            st.sampled_from(_AROUND).map(lambda text: text.replace("{}", CANARY)),
            st.sampled_from([[CANARY], {CANARY: CANARY}, 5, None, True]),
        ),
    ),
    st.sampled_from([0, 1, 2, 10]),
)
def test_a_refusal_holds_no_value(fields: dict[str, object], cut: int) -> None:
    """However a secret is malformed, nothing that a log could show of the error holds any part of a value."""
    text = json.dumps(fields)
    try:
        shown = repr(Credentials.parse(text[: len(text) - cut]))
    except AccessError as error:
        shown = texts_of(error) + "".join(traceback.format_exception(error))
    assert "canary" not in shown
