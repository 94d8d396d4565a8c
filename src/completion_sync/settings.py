"""Settings, the only reader of the environment. A bad value fails at start, with the variable's name."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Hosts:
    """Thrive's hosts: the public API for REST and its tokens, the user API for webhook tokens."""

    public_api: str
    user_api: str


# Thrive's published table of environments.
ENVIRONMENTS: dict[str, Hosts] = {
    "production": Hosts("https://public.api.learn.link", "https://user.api.learn.link"),
    "staging": Hosts("https://public.api.learnstaging.link", "https://user.api.learnstaging.link"),
    "production-mea": Hosts("https://public.api.mea.learn.tech", "https://user.api.mea.learn.tech"),
    "staging-mea": Hosts("https://public.api.meastaging.learn.tech", "https://user.api.meastaging.learn.tech"),
}

WEBHOOK_SCOPE = "api/webhooks"

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
# Bucket names: 3 to 63 lower-case letters, digits, dots and hyphens ("Bucket naming rules" in Amazon S3's user guide).
_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([!-~]{1,900}/)?")
# RFC 6749, section 3.3: scope-token.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_LOCAL_NAMES = frozenset({"localhost", "host.docker.internal"})
# Docker's default bridge, docker0. Its other networks overlap with those of companies.
_DOCKER_BRIDGE = ipaddress.ip_network("172.17.0.0/16")


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one execution environment; docs/configuration.md gives each variable's meaning.

    ``public_api`` and ``user_api`` are base URLs without a trailing slash.
    """

    secret_id: str
    public_api: str
    user_api: str
    scope: str
    dead_letter_queue_url: str | None
    retry_queue_url: str | None
    max_concurrency: int
    secret_max_age_seconds: float
    request_timeout_seconds: float
    backoff_base_seconds: float
    backoff_cap_seconds: float
    service: str
    metrics_namespace: str
    log_level: str
    read_scope: str
    user_cache_seconds: float
    user_wait_hours: float
    config_uri: str | None
    config_max_age_seconds: float

    @property
    def one_scope_suffices(self) -> bool:
        """Whether a token with the scope for completions may look people up too."""
        granted = self.scope.split()
        return "api/all" in granted or self.scope == self.read_scope or self.read_scope in granted

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read and validate every variable. An empty one counts as absent, except for the scopes.

        :raises SettingError: names the variable and what is allowed.
        """
        hosts = _hosts(env)
        return cls(
            secret_id=_required(env, "THRIVE_SECRET_ID", "must be the name or the ARN of the secret"),
            public_api=hosts.public_api,
            user_api=hosts.user_api,
            scope=_scope(env, "THRIVE_SCOPE", "api/write"),
            dead_letter_queue_url=_queue_url(env, "DEAD_LETTER_QUEUE_URL"),
            retry_queue_url=_queue_url(env, "RETRY_QUEUE_URL"),
            max_concurrency=int(_number(env, "MAX_CONCURRENCY", 10, 1, 200, whole=True)),
            secret_max_age_seconds=_number(env, "SECRET_MAX_AGE_SECONDS", 300, 0, 86_400),
            request_timeout_seconds=_number(env, "REQUEST_TIMEOUT_SECONDS", 10, 0.1, 300),
            backoff_base_seconds=_number(env, "BACKOFF_BASE_SECONDS", 30, 0, 43_200),
            backoff_cap_seconds=_number(env, "BACKOFF_CAP_SECONDS", 900, 0, 43_200),
            service=_optional(env, "POWERTOOLS_SERVICE_NAME") or "thrive-completion-sync",
            metrics_namespace=_optional(env, "POWERTOOLS_METRICS_NAMESPACE") or "ThriveCompletionSync",
            log_level=_log_level(env),
            read_scope=_scope(env, "THRIVE_READ_SCOPE", "api/read"),
            user_cache_seconds=_number(env, "USER_CACHE_SECONDS", 3600, 0, 86_400),
            user_wait_hours=_number(env, "USER_WAIT_HOURS", 72, 0, 168),
            config_uri=_config_uri(env),
            config_max_age_seconds=_number(env, "CONFIG_MAX_AGE_SECONDS", 300, 0, 86_400),
        )


def _optional(env: Mapping[str, str], variable: str) -> str | None:
    return env.get(variable, "").strip() or None


def _required(env: Mapping[str, str], variable: str, allowed: str) -> str:
    value = _optional(env, variable)
    if value is None:
        raise SettingError(variable, allowed)
    return value


def _number(
    env: Mapping[str, str], variable: str, default: float, least: float, most: float, *, whole: bool = False
) -> float:
    text = _optional(env, variable)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) and least <= float(text) <= most and not (whole and "." in text):
        return float(text)
    kind = "a whole number" if whole else "a number"
    raise SettingError(variable, f"must be {kind} from {least:g} to {most:g}")


def _scope(env: Mapping[str, str], variable: str, default: str) -> str:
    scope = env.get(variable, default)
    if scope == "" or _SCOPE.fullmatch(scope):
        return scope
    raise SettingError(variable, f"must be scopes separated by single spaces, such as {default}, or empty")


def _config_uri(env: Mapping[str, str]) -> str | None:
    uri = _optional(env, "CONFIG_URI")
    if uri is None:
        return None
    if not _S3_URI.fullmatch(uri if uri.endswith("/") else f"{uri}/"):
        raise SettingError("CONFIG_URI", "must be s3://bucket/ or s3://bucket/prefix/")
    return uri if uri.endswith("/") else f"{uri}/"


def _log_level(env: Mapping[str, str]) -> str:
    level = (_optional(env, "POWERTOOLS_LOG_LEVEL") or "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise SettingError("POWERTOOLS_LOG_LEVEL", "must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return level


def _hosts(env: Mapping[str, str]) -> Hosts:
    environment = _optional(env, "THRIVE_ENVIRONMENT") or "production"
    if environment not in ENVIRONMENTS:
        raise SettingError("THRIVE_ENVIRONMENT", f"must be one of {', '.join(ENVIRONMENTS)}")
    base_url = _optional(env, "THRIVE_BASE_URL")
    if base_url is None:
        return ENVIRONMENTS[environment]
    if not _is_base_url(base_url):
        raise SettingError(
            "THRIVE_BASE_URL",
            "must be https://host[:port] without a path, a query or credentials; http:// only to a loopback address, "
            f"host.docker.internal or a docker bridge address ({_DOCKER_BRIDGE})",
        )
    base_url = base_url.rstrip("/")
    return Hosts(base_url, base_url)


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    bare = parts.path in ("", "/") and "?" not in url and "#" not in url and "@" not in parts.netloc
    if not host or not bare or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_on_this_machine(host))


def _is_on_this_machine(host: str) -> bool:
    if host in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address in _DOCKER_BRIDGE


def _queue_url(env: Mapping[str, str], variable: str) -> str | None:
    url = _optional(env, variable)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("https", "http") and bool(parts.hostname) and len(parts.path) > 1
    except ValueError:
        usable = False
    if not usable:
        raise SettingError(
            variable, "must be the URL of an SQS queue, such as https://sqs.eu-west-2.amazonaws.com/…/name"
        )
    return url
