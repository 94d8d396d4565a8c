"""Settings: every variable's default, its bounds, and what is refused."""

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.errors import SettingError
from completion_sync.settings import ENVIRONMENTS, Hosts, Settings
from tests.support.fakes import CANARY

NAME = "learning/thrive"
QUEUE = "https://sqs.eu-west-2.amazonaws.com/123456789012/completions"

# variable: attribute, default, another good value, what it becomes
VARIABLES = {
    "THRIVE_SECRET_ID": ("secret_id", NAME, "arn:aws:secretsmanager:eu-west-2:1:secret:a", None),
    "THRIVE_SCOPE": ("scope", "api/write", "api/read api/write", None),
    "DEAD_LETTER_QUEUE_URL": ("dead_letter_queue_url", None, QUEUE, None),
    "RETRY_QUEUE_URL": ("retry_queue_url", None, QUEUE, None),
    "MAX_CONCURRENCY": ("max_concurrency", 10, "25", 25),
    "SECRET_MAX_AGE_SECONDS": ("secret_max_age_seconds", 300, "60", 60.0),
    "REQUEST_TIMEOUT_SECONDS": ("request_timeout_seconds", 10, "2.5", 2.5),
    "BACKOFF_BASE_SECONDS": ("backoff_base_seconds", 30, "5", 5.0),
    "BACKOFF_CAP_SECONDS": ("backoff_cap_seconds", 900, "1800", 1800.0),
    "POWERTOOLS_SERVICE_NAME": ("service", "thrive-completion-sync", "other", None),
    "POWERTOOLS_METRICS_NAMESPACE": ("metrics_namespace", "ThriveCompletionSync", "Other", None),
    "POWERTOOLS_LOG_LEVEL": ("log_level", "INFO", "debug", "DEBUG"),
    "THRIVE_READ_SCOPE": ("read_scope", "api/read", "api/all", None),
    "CONFIG_URI": ("config_uri", None, "s3://bucket/prefix", "s3://bucket/prefix/"),
    "CONFIG_MAX_AGE_SECONDS": ("config_max_age_seconds", 300, "60", 60.0),
    "USER_CACHE_SECONDS": ("user_cache_seconds", 3600, "60", 60.0),
    "USER_WAIT_HOURS": ("user_wait_hours", 72, "168", 168.0),
}


def settings(**variables):
    return Settings.from_env({"THRIVE_SECRET_ID": NAME} | variables)


def refusal(variable, value, **others):
    """Return what is allowed, as the error for this value says it."""
    with pytest.raises(SettingError) as refused:
        settings(**{variable: value}, **others)
    error = refused.value
    assert error.variable == variable
    assert error.__cause__ is error.__context__ is None
    return str(error).removeprefix(f"{variable}: ")


# --- All variables ---


def test_the_table_covers_every_setting():
    assert {field.name for field in fields(Settings)} == {attribute for attribute, *_ in VARIABLES.values()} | {
        "public_api",
        "user_api",
    }


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_sets_its_own_attribute_and_has_a_default(variable):
    attribute, default, text, value = VARIABLES[variable]
    changed = settings(**{variable: text})
    assert getattr(settings(), attribute) == default
    assert getattr(changed, attribute) == (value or text) != default
    others = {field.name for field in fields(Settings)} - {attribute}
    assert [other for other in others if getattr(changed, other) != getattr(settings(), other)] == []


@pytest.mark.parametrize("variable", [name for name in VARIABLES if "SCOPE" not in name])
def test_white_space_around_a_value_is_dropped(variable):
    text = VARIABLES[variable][2]
    assert settings(**{variable: f" {text}\n"}) == settings(**{variable: text})


@pytest.mark.parametrize("empty", ["", " ", "\t\n"], ids=ascii)
@pytest.mark.parametrize(
    "variable", sorted({*VARIABLES, "THRIVE_ENVIRONMENT", "THRIVE_BASE_URL"} - {"THRIVE_SCOPE", "THRIVE_READ_SCOPE"})
)
def test_an_empty_variable_counts_as_absent(variable, empty):
    if variable == "THRIVE_SECRET_ID":
        assert refusal(variable, empty) == "must be the name or the ARN of the secret"
    else:
        assert settings(**{variable: empty}) == settings()


def test_the_secret_id_is_required():
    with pytest.raises(SettingError, match="THRIVE_SECRET_ID: must be the name or the ARN of the secret"):
        Settings.from_env({})


def test_unknown_variables_are_ignored():
    assert settings(PATH="/bin", THRIVE_UNKNOWN="x", thrive_environment="junk") == settings()


@pytest.mark.parametrize(
    "variable",
    [
        *[variable for variable in VARIABLES if "SECRET_ID" not in variable and "NAME" not in variable],
        "THRIVE_ENVIRONMENT",
        "THRIVE_BASE_URL",
    ],
)
def test_no_refusal_echoes_the_value(variable):
    # It may be a secret that was pasted into the wrong field.
    with pytest.raises(SettingError) as refused:
        settings(**{variable: f'{CANARY} "'})
    error = refused.value
    assert CANARY not in f"{error!s} {error!r} {error.args} {vars(error)}"
    assert str(error).startswith(variable)


# --- Numbers ---

# variable: lowest, highest, values outside
NUMBERS = {
    "MAX_CONCURRENCY": ("1", "200", ["0", "201", "1.0", "10.5"]),
    "SECRET_MAX_AGE_SECONDS": ("0", "86400", ["86400.1", "86401", "-1"]),
    "REQUEST_TIMEOUT_SECONDS": ("0.1", "300", ["0", "0.09", "300.1", "301"]),
    "BACKOFF_BASE_SECONDS": ("0", "43200", ["43200.1", "43201", "-0.1"]),
    "BACKOFF_CAP_SECONDS": ("0", "43200", ["43200.1", "43201", "-0.1"]),
}
JUNK = [
    "ten", "1e1", "+5", "-5", "5,0", "5.", ".5", "5 0", "0x10", "1_0", "nan", "inf", "Infinity", "true", "5s", "5\x00",
    "1000000000", "1.0000000000", "\u0665", "\uff15", "5\n5", "9" * 5000
]  # fmt: skip


@pytest.mark.parametrize("variable", NUMBERS)
def test_a_number_outside_its_bounds_or_not_a_plain_one_is_refused_with_the_bounds(variable):
    lowest, highest, outside = NUMBERS[variable]
    kind = "a whole number" if variable == "MAX_CONCURRENCY" else "a number"
    for text in (lowest, highest):
        assert getattr(settings(**{variable: text}), VARIABLES[variable][0]) == float(text)
    for text in [*outside, *JUNK]:
        assert refusal(variable, text) == f"must be {kind} from {lowest} to {highest}", text


def test_leading_zeros_and_nine_decimals_are_accepted():
    assert settings(BACKOFF_BASE_SECONDS="001.000000001").backoff_base_seconds == 1.000000001


def test_the_concurrency_is_an_int():
    # A thread pool accepts no float.
    assert type(settings(MAX_CONCURRENCY="7").max_concurrency) is type(settings().max_concurrency) is int


# --- Scope, log level ---


@pytest.mark.parametrize("scope", ["", "api/write", "api/all", "api/read api/write", "!", "#[]~", "a" * 500])
def test_scopes_of_rfc_6749_pass_unchanged(scope):
    assert settings(THRIVE_SCOPE=scope).scope == scope


BAD_SCOPES = [" ", " api/write", "api/write ", "api/read  api/write", "a\tb", 'a"b', "a\\b", "\u00e9", "a\x7f", "a\n"]


@pytest.mark.parametrize("scope", BAD_SCOPES, ids=ascii)
def test_other_scopes_are_refused(scope):
    assert refusal("THRIVE_SCOPE", scope) == ("must be scopes separated by single spaces, such as api/write, or empty")


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "warning", "Error"])
def test_log_levels_are_accepted_in_any_case(level):
    assert settings(POWERTOOLS_LOG_LEVEL=level).log_level == level.upper()


@pytest.mark.parametrize("level", ["verbose", "10", "INFO DEBUG", "Level 10"])
def test_another_log_level_is_refused(level):
    assert refusal("POWERTOOLS_LOG_LEVEL", level) == "must be DEBUG, INFO, WARNING, ERROR or CRITICAL"


# --- Hosts ---


def test_each_environment_has_the_hosts_that_thrive_publishes():
    assert {
        "production": Hosts("https://public.api.learn.link", "https://user.api.learn.link"),
        "staging": Hosts("https://public.api.learnstaging.link", "https://user.api.learnstaging.link"),
        "production-mea": Hosts("https://public.api.mea.learn.tech", "https://user.api.mea.learn.tech"),
        "staging-mea": Hosts("https://public.api.meastaging.learn.tech", "https://user.api.meastaging.learn.tech"),
    } == ENVIRONMENTS
    for environment, hosts in ENVIRONMENTS.items():
        result = settings(THRIVE_ENVIRONMENT=f" {environment} ")
        assert Hosts(result.public_api, result.user_api) == hosts
    assert settings(THRIVE_ENVIRONMENT="production") == settings()


@pytest.mark.parametrize("environment", ["Production", "prod", "eu", "staging_mea"])
@pytest.mark.parametrize("base_url", ["", "https://thrive.example.com"])
def test_another_environment_is_refused_even_beside_a_base_url(environment, base_url):
    assert refusal("THRIVE_ENVIRONMENT", environment, THRIVE_BASE_URL=base_url) == (
        "must be one of production, staging, production-mea, staging-mea"
    )


HOST = "thrive.example.com"
ACCEPTED_URLS = [
    f"https://{HOST}", f"https://{HOST}:8443", f"https://{HOST}:65535", "https://192.0.2.1", "https://[2001:db8::1]:8443",
    "https://thrive", "HTTPS://thrive.example.com", "https://THRIVE.Example.COM", "HTTP://LOCALHOST:8080",
    "http://localhost", "http://127.0.0.1:8080", "http://127.255.255.254", "http://[::1]:1",
    "http://host.docker.internal:3000", "http://Host.Docker.Internal", "http://172.17.0.0", "http://172.17.255.255:80",
]  # fmt: skip
# Plain text to another machine: names, addresses beside those of loopback and the docker bridge, other spellings of
# loopback, and localhost anywhere but as the host.
REFUSED_HTTP = [
    "example.com", "public.api.learn.link", "192.0.2.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "172.31.0.1",
    "172.16.255.255", "172.18.0.0", "126.255.255.255", "128.0.0.1", "0.0.0.0", "[::]", "[2001:db8::1]",
    "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "notlocalhost", "thrive.localhost", "localhost.example.com",
    "127.0.0.1.example.com", "host.docker.internal.example.com", "localhost@example.com",
    "localhost:80@example.com", "example.com#@localhost", "example.com\\@localhost"
]  # fmt: skip
REFUSED_HTTPS = [
    f"user@{HOST}", f"user:{CANARY}@{HOST}", f"@{HOST}", f"{HOST}/rest/v1", f"{HOST}//", f"{HOST}/.", f"{HOST}?a=b",
    f"{HOST}/?a=b", f"{HOST}?", f"{HOST}#a", f"{HOST}/#", f"{HOST}\\rest", "", ":443", "/rest", f"{HOST}:65536",
    f"{HOST}:-1", f"{HOST}:https", f"{HOST}:\u0664\u0664\u0663", f"{HOST}:443:443", "thrive example.com",
    "thrive.example\n.com", "thrive.example\t.com", f"{HOST}\r\nX-Injected: 1", f"{HOST}\x00", f"{HOST}\x7f",
    "thr\u00efve.example.com", "thrive\uff0eexample.com", "[::1", "[thrive]"
]  # fmt: skip
REFUSED_URLS = [
    *[f"http://{rest}" for rest in REFUSED_HTTP],
    *[f"https://{rest}" for rest in REFUSED_HTTPS],
    *[HOST, f"{HOST}:443", f"//{HOST}", f"https:{HOST}", f"https:/{HOST}", "ftp://localhost", f"wss://{HOST}", "junk"],
    "file:///etc/passwd",
]


@pytest.mark.parametrize("url", ACCEPTED_URLS)
def test_a_base_url_replaces_both_hosts(url):
    for text in (url, f"{url}/", f" {url}\n"):
        result = settings(THRIVE_BASE_URL=text, THRIVE_ENVIRONMENT="staging")
        assert (result.public_api, result.user_api) == (url, url)


@pytest.mark.parametrize("url", REFUSED_URLS, ids=ascii)
def test_another_base_url_is_refused(url):
    assert refusal("THRIVE_BASE_URL", url) == (
        "must be https://host[:port] without a path, a query or credentials; http:// only to a loopback address, "
        "host.docker.internal or a docker bridge address (172.17.0.0/16)"
    )


THIS_MACHINE = (
    r"localhost|host\.docker\.internal|127\.\d+\.\d+\.\d+|172\.17\.\d+\.\d+|\[[0:]*:0*1(%.*)?\]|\[[0:]*:ffff:.*\]"
)


@given(st.from_regex(re.compile(r"(https?|HTTP)://[a-z0-9.:@/?#\[\]\\ -]{0,20}", re.ASCII), fullmatch=True) | st.text())
def test_any_base_url_is_refused_or_bare_and_plain_text_stays_on_this_machine(url):
    try:
        result = settings(THRIVE_BASE_URL=url).public_api
    except SettingError:
        return
    host = re.fullmatch(r"https?://([^/?#@\\\s]+?)(?::\d*)?", result, re.IGNORECASE)
    assert host
    assert result.lower().startswith("https:") or re.fullmatch(THIS_MACHINE, host[1].lower())


# --- Queues ---


@pytest.mark.parametrize("variable", ["DEAD_LETTER_QUEUE_URL", "RETRY_QUEUE_URL"])
@pytest.mark.parametrize("url", [QUEUE, f"{QUEUE}.fifo", "http://localhost:4566/000000000000/a", "https://q.example/q"])
def test_queue_urls_pass_unchanged(variable, url):
    assert getattr(settings(**{variable: url}), VARIABLES[variable][0]) == url


BAD_QUEUES = [
    "completions", "arn:aws:sqs:eu-west-2:123456789012:completions", "https:///123456789012/completions",
    "https://sqs.eu-west-2.amazonaws.com", "https://sqs.eu-west-2.amazonaws.com/", "//sqs.eu-west-2.amazonaws.com/q",
    "ftp://sqs.eu-west-2.amazonaws.com/q", "https://[::1/q"
]  # fmt: skip


@pytest.mark.parametrize("variable", ["DEAD_LETTER_QUEUE_URL", "RETRY_QUEUE_URL"])
@pytest.mark.parametrize("url", BAD_QUEUES)
def test_other_queue_urls_are_refused(variable, url):
    assert refusal(variable, url) == (
        "must be the URL of an SQS queue, such as https://sqs.eu-west-2.amazonaws.com/…/name"
    )
