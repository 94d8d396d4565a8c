"""Checks requests and answers against Thrive's OpenAPI file."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import yaml
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import ImmutableMultiDict

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEC_PATH = Path(__file__).parents[1] / "contract" / "thrive-openapi.yaml"

# The file names Thrive's own hosts; a request to a stand-in is checked as if it had gone to the first of them.
_HOST_URL = "https://public.api.learn.link"


@functools.cache
def _spec() -> OpenAPI:
    document = yaml.safe_load(SPEC_PATH.read_text())
    # openapi-core cannot check the scheme oauth2 and warns about it; _violation looks at the credentials itself.
    for holder in (document, *(operation for path in document["paths"].values() for operation in path.values())):
        if isinstance(holder, dict):
            holder.pop("security", None)
    return OpenAPI.from_dict(document)


@dataclass
class _Request:
    """A request in the shape that openapi-core reads."""

    method: str
    path: str
    content_type: str
    body: bytes | None
    parameters: RequestParameters = field(default_factory=RequestParameters)
    host_url: str = _HOST_URL


def assert_request_matches_contract(method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
    """Fail with the reason unless a request is one that the contract describes.

    `path` is the request target as sent, percent-encoded. Checked are path and method, the parameters of the query,
    the credentials' presence and scheme, the content type and the body's schema. No value is in the message.
    """
    target, _, query = path.partition("?")
    # Credentials do not change what is found: without the cache a load test would take minutes to check.
    found = _violation(
        method.lower(),
        target,
        query,
        headers.get("Content-Type", headers.get("content-type", "")),
        headers.get("Authorization", headers.get("authorization", "")).partition(" ")[0].lower(),
        body,
    )
    assert found is None, f"{method} {path} breaks the contract: {found}"


@functools.lru_cache(maxsize=4096)
def _violation(method: str, path: str, query: str, content_type: str, scheme: str, body: bytes) -> str | None:
    """Return what is wrong with a request, or None; `scheme` is that of the Authorization header, in lower case."""
    if not path.startswith("/oauth2/") and scheme not in ("basic", "bearer"):
        return "neither bearer token nor HTTP Basic credentials"
    try:
        parameters = RequestParameters(query=ImmutableMultiDict(parse_qsl(query, keep_blank_values=True)))
        _spec().validate_request(_Request(method, path, content_type, body or None, parameters))
    except OpenAPIError as refused:
        return _reason(refused)
    return None


def _reason(refused: OpenAPIError) -> str:
    """Say what the schema missed, without the values."""
    cause = refused.__cause__
    errors = getattr(cause, "schema_errors", None)
    if errors:
        return "; ".join(f"{error.json_path} breaks {error.validator!r}" for error in errors)
    return type(cause or refused).__name__
