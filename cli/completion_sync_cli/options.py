"""Options that commands share. They may come before or after the command's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from .context import Operator

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

pass_operator = click.make_pass_decorator(Operator, ensure=True)


def common(function: F) -> F:
    """Add --stack, --region, --profile and --json."""
    for option in (
        _kept("--json", "as_json", is_flag=True, default=None, help="Print one JSON document on standard output."),
        _kept("--profile", "profile", metavar="NAME", help="The AWS profile to use."),
        _kept("--region", "region", metavar="NAME", help="The AWS Region of the stack."),
        _kept(
            "--stack",
            "stack",
            metavar="NAME",
            envvar="COMPLETION_SYNC_STACK",
            show_envvar=True,
            help="The CloudFormation stack to work on.",
        ),
    ):
        function = option(function)
    return function


def _kept(flag: str, name: str, **more: Any) -> Callable[[F], F]:
    """Return an option whose value is kept in the Operator instead of being passed to the command."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        # An environment variable must not override an option before the command's name.
        source = context.get_parameter_source(parameter.name or "")
        operator = context.find_root().ensure_object(Operator)
        is_given = source is click.core.ParameterSource.COMMANDLINE
        if value is not None and (is_given or getattr(operator, name) in {None, False}):
            setattr(operator, name, value)
        return value

    return click.option(flag, name, callback=keep, expose_value=False, is_eager=True, **more)


def yes(function: F) -> F:
    """Add --yes."""
    return click.option("--yes", "confirmed", is_flag=True, help="Make changes instead of only describing them.")(
        function
    )


def rate(default: float, what: str) -> Callable[[F], F]:
    """Add --rate."""
    return click.option(
        "--rate",
        type=click.FloatRange(min=0.1),
        default=default,
        show_default=True,
        metavar="NUMBER",
        help=f"At most this many {what} a second.",
    )
