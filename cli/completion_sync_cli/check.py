"""`check`: finds what is wrong with a deployed stack."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError, HTTPClientError

from .aws_errors import POLICY, code_of, is_denied, is_fatal
from .checks import alarms, config, delivery, function, queues
from .checks.facts import STATUSES, Check, Facts, Status
from .errors import OK, WRONG
from .formats import count
from .options import common, pass_operator, yes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Operator

_OLD = "Deploy the version of the template that this command belongs to."


@click.command("check")
@click.option("--webhooks", is_flag=True, help="Also request a token for webhooks from Thrive.")
@click.option("--write", is_flag=True, help="Also send Thrive an empty completion, which it must refuse (needs --yes).")
@yes
@common
@pass_operator
def command(operator: Operator, /, *, webhooks: bool, write: bool, confirmed: bool) -> int:
    """Find what is wrong with a deployed stack, and what to do about it.

    In the last part the function checks itself: its role, the secret, Thrive's tokens and scopes. Nothing is recorded.

    \b
    Examples:
      completion-sync check --stack my-stack
      completion-sync check --write --yes
    """
    facts = Facts(operator.aws, operator.found)
    found = []
    asked = {"webhooks": webhooks, "write": write and confirmed}
    event = {"completionSync": "check", **{name: True for name, is_asked in asked.items() if is_asked}}
    for check in chain(_outside(facts), _run("function-check", _inside(facts, event))):
        found.append(check)
        operator.output.status(check.status, check.name, check.detail, check.remedy)
    if write and not confirmed:
        operator.output.say("The empty completion was not sent; use --yes to send it.")
    counts = {status: sum(check.status == status for check in found) for status in ("failed", "warning")}
    if counts["failed"] or counts["warning"]:
        style = "bold red" if counts["failed"] else "yellow"
        warnings = count(counts["warning"], "warning")
        operator.output.say(f"{counts['failed']} failed, {warnings}, {len(found)} checks.", style)
    else:
        operator.output.say(f"All is well: {len(found)} checks.", "bold green")
    names = ("name", "status", "detail", "remedy")
    operator.output.result({"checks": [{name: getattr(check, name) for name in names} for check in found]})
    return WRONG if counts["failed"] else OK


def _outside(facts: Facts) -> Iterator[Check]:
    for module in (function, queues, delivery, alarms, config):
        for check in module.CHECKS:
            yield from _run(check.__name__.replace("_", "-"), check(facts))


def _run(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Yield the results of one check. A denied call is "skipped", a missing resource "failed"."""
    try:
        yield from checks
    except ClientError as error:
        if is_fatal(error):
            raise
        if is_denied(error):
            yield Check(name, "skipped", f"AWS denied {error.operation_name}", POLICY)
        else:
            detail = f"{error.operation_name}: AWS answered {code_of(error)}"
            yield Check(name, "failed", detail, "Was something deleted by hand? Deploy the template again.")


def _inside(facts: Facts, event: dict[str, Any]) -> Iterator[Check]:
    """Let the function check itself. An invocation that fails is one failed check."""
    name = "function-check"
    try:
        answer = facts.aws.invocations.invoke(
            FunctionName=facts.stack.outputs["FunctionAliasArn"], Payload=json.dumps(event).encode()
        )
        payload: Any = json.loads(answer["Payload"].read())
    except (HTTPClientError, ValueError) as error:
        yield Check(name, "failed", f"the function did not answer: {type(error).__name__}", "Look at its log group.")
        return
    if answer.get("FunctionError") or not isinstance(payload, dict) or "checks" not in payload:
        kind = (
            payload.get("errorType", "no checks in its answer")
            if isinstance(payload, dict)
            else "its answer is not a JSON object"
        )
        remedy = _OLD if "UnsupportedEvent" in str(kind) else "Look at the newest error in its log group."
        yield Check(name, "failed", f"the function failed: {str(kind)[:100]}", remedy)
        return
    checks: list[dict[str, Any]] = payload["checks"]
    for item in checks:
        status: Status = next((known for known in STATUSES if known == item.get("status")), "failed")
        yield Check(str(item.get("name")), status, str(item.get("detail")), str(item.get("remedy")))
