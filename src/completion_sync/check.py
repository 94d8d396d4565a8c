"""Answers ``{"completionSync": "check"}``: tests what only the function itself can test, and records nothing.

Imported only for that event, which the operator's command sends.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from . import bootstrap
from .errors import AccessError, CallError, DeferralError, ForbiddenError, UnknownContentError
from .people import USERS_PATH
from .queues import describe
from .settings import WEBHOOK_SCOPE
from .thrive import COMPLETIONS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bootstrap import Application
    from .clock import Deadline

Status = Literal["ok", "warning", "failed", "skipped"]

_PUT_SECRET = (
    "Put tenantId and clientSecret into the secret: aws secretsmanager put-secret-value (output PutSecretCommand)."
)
_TRY_AGAIN = "Try again in a minute; see Thrive's status page."
# SQS refuses the whole call: two entries have the same id. A role that may not send is denied before that.
_REFUSED_BATCH = [{"Id": "check", "MessageBody": "check"}, {"Id": "check", "MessageBody": "check"}]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``remedy`` says what to do about it."""

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON shows it."""
        return {"name": self.name, "status": self.status, "detail": self.detail, "remedy": self.remedy}


def answer(application: Application, event: dict[str, Any], deadline: Deadline) -> dict[str, list[dict[str, str]]]:
    """Return ``{"checks": [{"name", "status", "detail", "remedy"}, …]}``.

    :param event: with ``"write": true`` an empty completion is sent, which Thrive must refuse; with
        ``"webhooks": true`` a token for webhooks is requested.
    """
    # Nothing that is cached: a secret that was changed a moment ago is to be tested as it is now.
    application.reset()
    checks = [
        _dead_letter_queue(application),
        *_config(application),
        *_thrive(application, deadline, write=event.get("write") is True, webhooks=event.get("webhooks") is True),
    ]
    return {"checks": [check.to_dict() for check in checks]}


def _dead_letter_queue(application: Application) -> Check:
    name = "function-dead-letters"
    url = application.settings.dead_letter_queue_url
    if url is None:
        return Check(name, "warning", "DEAD_LETTER_QUEUE_URL is not set", "Deploy the template, which sets it.")
    try:
        application.sqs().send_message_batch(QueueUrl=url, Entries=_REFUSED_BATCH)  # type: ignore[arg-type] # plain dicts
    except (BotoCoreError, ClientError, ValueError) as error:
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        if not code.endswith("BatchEntryIdsNotDistinct"):
            remedy = "Compare the function's role and the dead-letter queue with the template: sqs:SendMessage."
            return Check(name, "failed", f"cannot send to the dead-letter queue: {describe(error)}", remedy)
    return Check(name, "ok", "the role may send to the dead-letter queue")


def _config(application: Application) -> Iterator[Check]:
    config, remedy = application.config, "completion-sync config validate; then config push."
    if config is None:
        yield Check("function-config", "skipped", "CONFIG_URI is not set: no mapping, no content codes")
        return
    began = application.clock.now()
    try:
        mapping = config.mapping(began)
        described = "no mapping" if mapping is None else f"a mapping with {len(mapping.sources)} sources"
        if config.has_table(began):
            try:
                config.content_id(f"check-{uuid.uuid4()}", began)
            except UnknownContentError:
                described += ", a content table"
    except DeferralError as error:
        yield Check("function-config", "failed", error.detail, remedy)
        return
    yield Check("function-config", "ok", described)


def _thrive(application: Application, deadline: Deadline, *, write: bool, webhooks: bool) -> Iterator[Check]:
    try:
        reading = application.credentials.get()
    except AccessError as error:
        remedy = _TRY_AGAIN if error.reason == "unavailable" else _PUT_SECRET
        yield Check("function-secret", "failed", error.detail, remedy)
        yield Check("function-token", "skipped", "needs the secret")
        return
    method = reading.credentials.auth_method
    yield Check("function-secret", "ok", f"readable and well-formed, authMethod {method}")
    try:
        application.completions.authorizer.grant(deadline)
    except CallError as error:
        yield _failed("function-token", error, application)
        return
    if method == "basic":
        yield Check("function-token", "skipped", "authMethod basic needs no token")
    else:
        yield Check("function-token", "ok", f"Thrive issues tokens with the scope {application.settings.scope or '-'}")
    yield _lookup(application, deadline)
    if webhooks:
        yield _webhook_token(application, deadline)
    if write:
        yield _write(application, deadline)


def _lookup(application: Application, deadline: Deadline) -> Check:
    """Look up a person who does not exist. Without the scope for it, only references (userRef) cannot be used."""
    name = "function-read-scope"
    try:
        found = application.lookups.call(f"{USERS_PATH}check-{uuid.uuid4()}", deadline)
    except (ForbiddenError, AccessError) as error:
        if isinstance(error, AccessError) and (error.reason != "unauthorized" or error.status == 401):
            return _failed(name, error, application)
        remedy = "Ask Thrive for the scope api/read, or use userId only."
        return Check(name, "failed" if _needs_lookups(application) else "warning", error.detail, remedy)
    except CallError as error:
        return _failed(name, error, application)
    if found.status == 404:
        return Check(name, "ok", "Thrive looks people up, and does not know a made-up one")
    detail = f"Thrive answered {found.status} to the lookup of a made-up person"
    return Check(name, "failed", detail, "Is something in between that answers for Thrive? Check THRIVE_BASE_URL.")


def _needs_lookups(application: Application) -> bool:
    try:
        mapping = application.config.mapping(application.clock.now()) if application.config else None
    except DeferralError:
        return False
    return mapping is not None and any("userRef" in source.fields for source in mapping.sources)


def _webhook_token(application: Application, deadline: Deadline) -> Check:
    flow = bootstrap.webhook_token_flow(application.settings, application.clock, _ignore)
    try:
        flow.fetch(application.credentials.get().credentials, deadline)
    except CallError as error:
        return _failed("function-webhook-token", error, application)
    return Check("function-webhook-token", "ok", f"Thrive issues tokens with the scope {WEBHOOK_SCOPE}")


def _write(application: Application, deadline: Deadline) -> Check:
    """Send an empty completion: whoever may write is told that it is invalid."""
    name = "function-write-scope"
    try:
        found = application.completions.call(COMPLETIONS_PATH, deadline, b"{}")
    except CallError as error:
        return _failed(name, error, application)
    if found.status in (400, 422):
        return Check(name, "ok", f"Thrive refuses an empty completion with {found.status}, as it should")
    detail = f"Thrive answered {found.status} to an empty completion"
    return Check(name, "failed", detail, "Expected were 400 or 422. Check THRIVE_BASE_URL, and Thrive's ledger.")


def _failed(name: str, error: CallError, application: Application) -> Check:
    if not isinstance(error, DeferralError) or error.reason in ("unavailable", "rate_limited", "out_of_time"):
        remedy = f"{_TRY_AGAIN} Is {application.settings.public_api} the right host?"
    elif isinstance(error, ForbiddenError):
        remedy = "Ask Thrive to grant the client the scope api/write."
    else:
        remedy = (
            f"Do tenantId and clientSecret belong to {application.settings.public_api}? Staging and production differ. "
            f"May the client have the scope {application.settings.scope or 'that Thrive grants by default'}?"
        )
    return Check(name, "failed", error.detail, remedy)


def _ignore(_metric: str) -> None:
    return None
