"""``template.yaml`` as CloudFormation sees it: transformed by SAM, conditions decided, for one set of parameters."""

from __future__ import annotations

import copy
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
ACCOUNT, REGION, STACK = "123456789012", "eu-west-1", "learning"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OLD_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0000abcd-12ab-34cd-56ef-1234567890ab"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:thrive-AbCdEf"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:learning-completions"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundaries/applications"

# What a FIFO queue needs besides its type.
FIFO = {"QueueType": "fifo", "UserWaitHours": "0"}
CONFIG = {"ConfigUri": "s3://learning-config/thrive/", "ConfigKmsKeyArn": KEY}
# Each must deploy; together they decide every condition both ways.
PARAMETER_SETS: dict[str, dict[str, str]] = {
    "defaults": {},
    "fifo": FIFO,
    "direct": {"EventDelivery": "direct"},
    "customer-key": {"KmsKeyArn": KEY, "PreviousKmsKeyArn": OLD_KEY},
    "created-key": {"KmsKeyArn": "create", "AlarmEmail": "ops@example.com"},
    "existing-secret": {"ThriveSecretArn": SECRET, "ThriveSecretKmsKeyArn": KEY, "EventBusName": "learning"},
    "configured": CONFIG,
    "queue-only": {"EventDelivery": "none", "AlarmTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:pager"},
    "everything": {
        "Architecture": "arm64",
        "BatchSize": "100",
        "BatchingWindowSeconds": "60",
        "EventBusName": "learning",
        "EventDelivery": "direct",
        "EventSources": "app.one,app.two",
        "KmsKeyArn": "create",
        "PermissionsBoundaryArn": BOUNDARY,
        "QueueRetentionDays": "13",
        "RolePath": "/applications/learning/",
        "SnapStart": "PublishedVersions",
        "SnsTopicArn": TOPIC,
        "ThriveEnvironment": "staging-mea",
    },
}

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/3f2a91c0-0000-4000-8000-000000000000",
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (``!Ref``) written out."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


@functools.cache
def _raw_template() -> dict[str, Any]:
    return yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader=_Loader)


def raw() -> dict[str, Any]:
    """Return the template as written, the short forms written out."""
    return copy.deepcopy(_raw_template())


def parameters(values: dict[str, str]) -> dict[str, Any]:
    """Return every parameter's value: the given one or the default."""
    return {
        name: str(values.get(name, definition.get("Default", ""))) for name, definition in raw()["Parameters"].items()
    }


@dataclass(frozen=True)
class Transformed:
    """The resources and outputs that one set of parameters makes.

    References to resources stay: as a mapping, or as ``<Name>`` or ``<Name.Attribute>`` within a text.
    """

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any]

    def of_type(self, resource_type: str) -> dict[str, dict[str, Any]]:
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == resource_type
        }

    def one(self, resource_type: str) -> dict[str, Any]:
        (properties,) = self.of_type(resource_type).values()
        return properties

    def properties(self, logical_id: str) -> dict[str, Any]:
        return self.resources[logical_id]["Properties"]

    def depends_on(self, logical_id: str) -> set[str]:
        """Return what CloudFormation creates before a resource: by DependsOn, by reference, or through others."""
        found: set[str] = set()
        unseen = {logical_id}
        while unseen:
            resource = self.resources[unseen.pop()]
            nearest = {*_explicit(resource), *_references(resource.get("Properties", {}))} & self.resources.keys()
            unseen |= nearest - found
            found |= nearest
        return found

    def explicitly_depends_on(self, logical_id: str) -> list[str]:
        """Return what a resource names in DependsOn, present or not."""
        return _explicit(self.resources[logical_id])


def _explicit(resource: dict[str, Any]) -> list[str]:
    names = resource.get("DependsOn", [])
    return [names] if isinstance(names, str) else names


def _references(node: Any) -> set[str]:
    """Return the names of the resources that properties refer to."""
    if isinstance(node, str):
        return set(re.findall(r"<(\w+)", node))
    if isinstance(node, list):
        return set().union(*map(_references, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(_references, node.values()))
    if "Ref" in node:
        found.add(node["Ref"])
    if "Fn::GetAtt" in node:
        found.add(node["Fn::GetAtt"][0])
    return found


@functools.cache
def transformed(name: str) -> Transformed:
    """Transform the template for one of :data:`PARAMETER_SETS`; what is returned is shared: do not change it."""
    return transform(PARAMETER_SETS[name])


def transform(values: dict[str, str], *, code: str = "s3://bucket/artefact.zip") -> Transformed:
    """Transform the template for any parameters."""
    from samtranslator.translator.transform import transform as sam  # noqa: PLC0415 - slow, and few tests need it

    fragment = raw()
    fragment["Resources"]["CompletionFunction"]["Properties"]["CodeUri"] = code
    given = parameters(values)
    with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION}):
        template = sam(fragment, dict(given), _NoManagedPolicies())
    resolver = _Resolver(template, given)
    resources = {
        logical_id: resolver.resolve(resource)
        for logical_id, resource in template["Resources"].items()
        if resolver.holds(resource)
    }
    outputs = {name: resolver.resolve(output) for name, output in template["Outputs"].items() if resolver.holds(output)}
    return Transformed(resources, outputs)


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


class _Resolver:
    """Decides conditions and resolves what is known before anything exists; references to resources stay."""

    def __init__(self, template: dict[str, Any], values: dict[str, Any]) -> None:
        self._template = template
        self._values = {**PSEUDO, **values}
        for name, definition in template["Parameters"].items():
            if definition["Type"] == "CommaDelimitedList":
                self._values[name] = self._values[name].split(",")

    def holds(self, item: dict[str, Any]) -> bool:
        return "Condition" not in item or self.condition(item["Condition"])

    def condition(self, name: str) -> bool:
        return self._truth(self._template["Conditions"][name])

    def _truth(self, node: dict[str, Any]) -> bool:
        ((function, argument),) = node.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            left, right = (self.resolve(side) for side in argument)
            return bool(left == right)
        truths = [self._truth(part) for part in argument]
        return {"Fn::And": all, "Fn::Or": any, "Fn::Not": lambda parts: not parts[0]}[function](truths)

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref":
                return _NOTHING if argument == "AWS::NoValue" else self._values.get(argument, node)
            if function.startswith("Fn::") and hasattr(self, method := "_" + function[4:].lower()):
                return getattr(self, method)(argument)
        items = ((key, self.resolve(value)) for key, value in node.items())
        return {key: value for key, value in items if value is not _NOTHING}

    def _if(self, argument: list[Any]) -> Any:
        return self.resolve(argument[1] if self.condition(argument[0]) else argument[2])

    def _findinmap(self, argument: list[Any]) -> Any:
        table, row, column = (self.resolve(part) for part in argument)
        return self._template["Mappings"][table][row][column]

    def _split(self, argument: list[Any]) -> Any:
        text = self.resolve(argument[1])
        return text.split(argument[0]) if isinstance(text, str) else {"Fn::Split": [argument[0], text]}

    def _select(self, argument: list[Any]) -> Any:
        items = self.resolve(argument[1])
        return items[int(argument[0])] if isinstance(items, list) else {"Fn::Select": [argument[0], items]}

    def _join(self, argument: list[Any]) -> Any:
        parts = self.resolve(argument[1])
        return argument[0].join(parts) if all(isinstance(part, str) for part in parts) else {"Fn::Join": parts}

    def _sub(self, argument: Any) -> str:
        text, local = argument if isinstance(argument, list) else (argument, {})
        values = {**self._values, **{name: self.resolve(value) for name, value in local.items()}}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            return f"${{{name[1:]}}}" if name.startswith("!") else str(values.get(name, f"<{name}>"))

        return re.sub(r"\$\{([^}]+)\}", value, text)


def rule_violations(values: dict[str, str]) -> list[str]:
    """Return the descriptions of the ``Rules:`` assertions that parameters violate."""
    template = raw()
    given = parameters(values)

    def truth(node: dict[str, Any]) -> bool:
        ((function, argument),) = node.items()
        if function == "Fn::Not":
            return not truth(argument[0])
        resolved = [given[part["Ref"]] if isinstance(part, dict) else part for part in argument]
        if function == "Fn::Contains":
            return resolved[1] in resolved[0]
        assert function == "Fn::Equals"
        return bool(resolved[0] == resolved[1])

    return [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if "RuleCondition" not in rule or truth(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not truth(assertion["Assert"])
    ]
