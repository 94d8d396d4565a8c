"""Settings: every variable's default, its bounds, and what is refused."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.errors import SettingError
from completion_sync.settings import ENVIRONMENTS, Hosts, Settings
from tests.support.fakes import CANARY

NAME = "learning/thrive"
REQUIRED = {"THRIVE_SECRET_ID": NAME}
QUEUE = "https://sqs.eu-west-2.amazonaws.com/123456789012/completions"
PRODUCTION = Hosts("https://public.api.learn.link", "https://user.api.learn.link")


def settings(**variables: str) -> Settings:
    """Read settings from an environment that has what is required, and these."""
    return Settings.from_env(REQUIRED | variables)


def refusal(**variables: str) -> SettingError:
    """Give the error that an environment is refused with."""
    with pytest.raises(SettingError) as refused:
        settings(**variables)
    return refused.value


# variable → attribute, default, another good value and what it becomes
VARIABLES: dict[str, tuple[str, object, str, object]] = {
    "THRIVE_SECRET_ID": ("secret_id", NAME, "arn:aws:secretsmanager:eu-west-2:1:secret:a", ...),
    "THRIVE_SCOPE": ("scope", "api/write", "api/read api/write", ...),
    "DEAD_LETTER_QUEUE_URL": ("dead_letter_queue_url", None, QUEUE, ...),
    "RETRY_QUEUE_URL": ("retry_queue_url", None, QUEUE, ...),
    "MAX_CONCURRENCY": ("max_concurrency", 10, "25", 25),
    "SECRET_MAX_AGE_SECONDS": ("secret_max_age_seconds", 300, "60", 60.0),
    "REQUEST_TIMEOUT_SECONDS": ("request_timeout_seconds", 10, "2.5", 2.5),
    "BACKOFF_BASE_SECONDS": ("backoff_base_seconds", 30, "5", 5.0),
    "BACKOFF_CAP_SECONDS": ("backoff_cap_seconds", 3600, "900", 900.0),
    "POWERTOOLS_SERVICE_NAME": ("service", "thrive-completion-sync", "other", ...),
    "POWERTOOLS_METRICS_NAMESPACE": ("metrics_namespace", "ThriveCompletionSync", "Other", ...),
}

# variable → lowest, highest, whole
NUMBERS: dict[str, tuple[str, str, bool]] = {
    "MAX_CONCURRENCY": ("1", "200", True),
    "SECRET_MAX_AGE_SECONDS": ("0", "86400", False),
    "REQUEST_TIMEOUT_SECONDS": ("0.1", "300", False),
    "BACKOFF_BASE_SECONDS": ("0", "43200", False),
    "BACKOFF_CAP_SECONDS": ("0", "43200", False),
}
OUTSIDE = [
    (variable, text)
    for variable, texts in {
        "MAX_CONCURRENCY": ["0", "201", "1.0", "10.5"],
        "SECRET_MAX_AGE_SECONDS": ["86400.1", "86401", "-1"],
        "REQUEST_TIMEOUT_SECONDS": ["0", "0.09", "300.1", "301"],
        "BACKOFF_BASE_SECONDS": ["43200.1", "43201", "-0.1"],
        "BACKOFF_CAP_SECONDS": ["43200.1", "43201", "-0.1"],
    }.items()
    for text in texts
]
JUNK_NUMBERS = [
    "ten",
    "1e1",
    "+5",
    "-5",
    "5,0",
    "5.",
    ".5",
    "5 0",
    "0x10",
    "1_0",
    "nan",
    "inf",
    "Infinity",
    "true",
    "5s",
    "1000000000",
    "1.0000000000",
    "\u0665",
    "\uff15",
    "5\x00",
    "5\n5",
    "9" * 5000,
]

ACCEPTED_URLS: dict[str, str] = {
    "https": "https://thrive.example.com",
    "https-with-port": "https://thrive.example.com:8443",
    "https-highest-port": "https://thrive.example.com:65535",
    "https-address": "https://192.0.2.1",
    "https-ipv6-address": "https://[2001:db8::1]:8443",
    "https-single-label": "https://thrive",
    "https-upper-case-scheme": "HTTPS://thrive.example.com",
    "https-upper-case-host": "https://THRIVE.Example.COM",
    "http-localhost": "http://localhost",
    "http-localhost-with-port": "http://localhost:8080",
    "http-upper-case-localhost": "HTTP://LOCALHOST:8080",
    "http-loopback": "http://127.0.0.1:8080",
    "http-loopback-last": "http://127.255.255.254",
    "http-ipv6-loopback": "http://[::1]:1",
    "http-docker-host": "http://host.docker.internal:3000",
    "http-upper-case-docker-host": "http://Host.Docker.Internal:3000",
    "http-docker-bridge": "http://172.17.0.1:8080",
    "http-docker-bridge-first": "http://172.17.0.0",
    "http-docker-bridge-last": "http://172.17.255.255:8080",
}

REFUSED_URLS: dict[str, str] = {
    "http-name": "http://example.com",
    "http-thrive-itself": "http://public.api.learn.link",
    "http-address": "http://192.0.2.1",
    "http-private-10": "http://10.0.0.1",
    "http-private-192": "http://192.168.0.1",
    "http-below-the-docker-bridge": "http://172.16.255.255",
    "http-above-the-docker-bridge": "http://172.18.0.0",
    "http-default-vpc": "http://172.31.0.1",
    "http-instance-metadata": "http://169.254.169.254",
    "http-below-loopback": "http://126.255.255.255",
    "http-above-loopback": "http://128.0.0.1",
    "http-unspecified": "http://0.0.0.0",
    "http-unspecified-ipv6": "http://[::]",
    "http-ipv6-address": "http://[2001:db8::1]",
    "http-short-loopback": "http://127.1",
    "http-decimal-loopback": "http://2130706433",
    "http-hexadecimal-loopback": "http://0x7f000001",
    "http-octal-loopback": "http://0177.0.0.1",
    "http-localhost-as-a-label": "http://localhost.example.com",
    "http-localhost-as-an-ending": "http://notlocalhost",
    "http-localhost-below": "http://thrive.localhost",
    "http-loopback-as-a-label": "http://127.0.0.1.example.com",
    "http-docker-host-as-a-label": "http://host.docker.internal.example.com",
    "http-localhost-as-the-user": "http://localhost@example.com",
    "http-localhost-as-user-with-port": "http://localhost:80@example.com",
    "http-localhost-behind-a-fragment": "http://example.com#@localhost",
    "http-localhost-behind-a-backslash": "http://example.com\\@localhost",
    "user": "https://user@thrive.example.com",
    "user-and-more": f"https://user:{CANARY}@thrive.example.com",
    "empty-user": "https://@thrive.example.com",
    "path": "https://thrive.example.com/rest/v1",
    "path-of-two-slashes": "https://thrive.example.com//",
    "path-of-a-dot": "https://thrive.example.com/.",
    "query": "https://thrive.example.com?a=b",
    "query-behind-a-slash": "https://thrive.example.com/?a=b",
    "empty-query": "https://thrive.example.com?",
    "fragment": "https://thrive.example.com#a",
    "empty-fragment": "https://thrive.example.com/#",
    "backslash": "https://thrive.example.com\\rest",
    "no-scheme": "thrive.example.com",
    "no-scheme-with-port": "thrive.example.com:443",
    "no-scheme-with-slashes": "//thrive.example.com",
    "no-slashes": "https:thrive.example.com",
    "one-slash": "https:/thrive.example.com",
    "no-host": "https://",
    "no-host-but-a-port": "https://:443",
    "no-host-but-a-path": "https:///rest",
    "other-scheme": "ftp://localhost",
    "file": "file:///etc/passwd",
    "websocket": "wss://thrive.example.com",
    "port-too-high": "https://thrive.example.com:65536",
    "port-negative": "https://thrive.example.com:-1",
    "port-of-letters": "https://thrive.example.com:https",
    "port-of-other-digits": "https://thrive.example.com:\u0664\u0664\u0663",
    "two-ports": "https://thrive.example.com:443:443",
    "inner-space": "https://thrive example.com",
    "inner-newline": "https://thrive.example\n.com",
    "inner-tab": "https://thrive.example\t.com",
    "inner-carriage-return": "https://thrive.example.com\r\nX-Injected: 1",
    "NUL": "https://thrive.example.com\x00",
    "DEL": "https://thrive.example.com\x7f",
    "beyond-ascii": "https://thr\u00efve.example.com",
    "fullwidth-dot": "https://thrive\uff0eexample.com",
    "open-bracket": "https://[::1",
    "no-address-in-brackets": "https://[thrive]",
    "junk": "canary",
}

REFUSED_QUEUE_URLS: dict[str, str] = {
    "name": "completions",
    "arn": "arn:aws:sqs:eu-west-2:123456789012:completions",
    "no-path": "https://sqs.eu-west-2.amazonaws.com",
    "root-path": "https://sqs.eu-west-2.amazonaws.com/",
    "no-host": "https:///123456789012/completions",
    "other-scheme": "ftp://sqs.eu-west-2.amazonaws.com/123456789012/completions",
    "no-scheme": "//sqs.eu-west-2.amazonaws.com/123456789012/completions",
    "open-bracket": "https://[::1/123456789012/completions",
}


class TestVariables:
    """What all variables have in common."""

    def test_the_table_covers_every_setting(self) -> None:
        """Each attribute but the two hosts has its row in this file's table."""
        covered = {attribute for attribute, *_ in VARIABLES.values()}

        assert {field.name for field in fields(Settings)} - covered == {"public_api", "user_api"}

    @pytest.mark.parametrize("variable", VARIABLES)
    def test_an_absent_variable_has_its_default(self, variable: str) -> None:
        """With nothing but the secret's name set, each setting has its documented default."""
        attribute, default, *_ = VARIABLES[variable]

        assert getattr(settings(), attribute) == default

    @pytest.mark.parametrize("empty", ["", " ", "\t\n"], ids=["empty", "space", "tab-and-newline"])
    @pytest.mark.parametrize(
        "variable", [name for name in VARIABLES if name not in {"THRIVE_SCOPE", "THRIVE_SECRET_ID"}]
    )
    def test_an_empty_variable_counts_as_absent(self, variable: str, empty: str) -> None:
        """A template can only set a parameter to the empty string: that means the default."""
        assert settings(**{variable: empty}) == settings()

    @pytest.mark.parametrize("variable", VARIABLES)
    def test_each_variable_sets_its_own_attribute(self, variable: str) -> None:
        """A good value changes the one setting that it belongs to."""
        attribute, default, text, value = VARIABLES[variable]
        expected = text if value is ... else value

        changed = settings(**{variable: text})

        assert getattr(changed, attribute) == expected != default
        assert [
            field.name for field in fields(Settings) if getattr(changed, field.name) != getattr(settings(), field.name)
        ] == [attribute]

    @pytest.mark.parametrize("variable", [name for name in VARIABLES if name != "THRIVE_SCOPE"])
    def test_white_space_around_a_value_is_dropped(self, variable: str) -> None:
        """A newline that came along with a pasted value does no harm."""
        text = VARIABLES[variable][2]

        assert settings(**{variable: f" {text}\n"}) == settings(**{variable: text})

    def test_unknown_variables_are_of_no_concern(self) -> None:
        """The rest of the environment changes nothing."""
        assert settings(PATH="/bin", THRIVE_UNKNOWN="x", thrive_environment="junk") == settings()

    def test_settings_cannot_be_changed(self) -> None:
        """Settings are read once and then fixed."""
        with pytest.raises(AttributeError):
            settings().scope = "api/all"  # type: ignore[misc]


class TestSecretId:
    """``THRIVE_SECRET_ID``."""

    @pytest.mark.parametrize("env", [{}, {"THRIVE_SECRET_ID": ""}, {"THRIVE_SECRET_ID": " \n"}], ids=str)
    def test_it_is_required(self, env: dict[str, str]) -> None:
        """Without it there is no start, and the error says what is missing."""
        with pytest.raises(SettingError) as refused:
            Settings.from_env(env)

        assert refused.value.variable == "THRIVE_SECRET_ID"
        assert str(refused.value) == "THRIVE_SECRET_ID: must be the name or the ARN of the secret"


class TestNumbers:
    """The variables that hold numbers."""

    @pytest.mark.parametrize("variable", NUMBERS)
    def test_the_bounds_belong_to_the_range(self, variable: str) -> None:
        """The lowest and the highest value are accepted."""
        attribute = VARIABLES[variable][0]
        lowest, highest, _ = NUMBERS[variable]

        assert getattr(settings(**{variable: lowest}), attribute) == float(lowest)
        assert getattr(settings(**{variable: highest}), attribute) == float(highest)

    @pytest.mark.parametrize(("variable", "text"), OUTSIDE)
    def test_what_is_outside_is_refused_with_the_range(self, variable: str, text: str) -> None:
        """A value outside is refused, and the error names the variable and the range."""
        lowest, highest, whole = NUMBERS[variable]
        kind = "a whole number" if whole else "a number"

        error = refusal(**{variable: text})

        assert error.variable == variable
        assert str(error) == f"{variable}: must be {kind} from {lowest} to {highest}"

    @pytest.mark.parametrize("text", JUNK_NUMBERS, ids=ascii)
    @pytest.mark.parametrize("variable", NUMBERS)
    def test_what_is_no_plain_number_is_refused(self, variable: str, text: str) -> None:
        """Only decimal digits with at most one point are a number; the error does not echo the value."""
        error = refusal(**{variable: text})

        lowest, highest, _ = NUMBERS[variable]
        assert error.variable == variable
        assert str(error).endswith(f"from {lowest} to {highest}")

    def test_the_number_of_threads_is_an_int(self) -> None:
        """A thread pool takes no float."""
        assert type(settings(MAX_CONCURRENCY="7").max_concurrency) is int
        assert type(settings().max_concurrency) is int

    def test_leading_zeros_and_nine_decimals_are_plain(self) -> None:
        """Leading zeros and up to nine decimals are read as decimal."""
        assert settings(MAX_CONCURRENCY="010").max_concurrency == 10
        assert settings(BACKOFF_BASE_SECONDS="1.000000001").backoff_base_seconds == 1.000000001


class TestScope:
    """``THRIVE_SCOPE``."""

    @pytest.mark.parametrize("scope", ["", "api/write", "api/all", "api/read api/write", "!", "#[]~", "a" * 500])
    def test_good_scopes_pass_unchanged(self, scope: str) -> None:
        """Scope tokens of RFC 6749 with single spaces between pass; the empty value means that none is sent."""
        assert settings(THRIVE_SCOPE=scope).scope == scope

    @pytest.mark.parametrize(
        "scope",
        [
            " ",
            " api/write",
            "api/write ",
            "api/read  api/write",
            "api/read\tapi/write",
            'a"b',
            "a\\b",
            "\u00e9",
            "a\x7f",
            "a\n",
        ],
        ids=ascii,
    )
    def test_bad_scopes_are_refused(self, scope: str) -> None:
        """Other white space, quotes, backslashes and what is not ASCII are refused."""
        assert str(refusal(THRIVE_SCOPE=scope)) == (
            "THRIVE_SCOPE: must be scopes separated by single spaces, such as api/write, or empty"
        )


class TestHosts:
    """``THRIVE_ENVIRONMENT`` and ``THRIVE_BASE_URL``."""

    @pytest.mark.parametrize(
        ("environment", "public_api", "user_api"),
        [
            ("production", "https://public.api.learn.link", "https://user.api.learn.link"),
            ("staging", "https://public.api.learnstaging.link", "https://user.api.learnstaging.link"),
            ("production-mea", "https://public.api.mea.learn.tech", "https://user.api.mea.learn.tech"),
            ("staging-mea", "https://public.api.meastaging.learn.tech", "https://user.api.meastaging.learn.tech"),
        ],
    )
    def test_each_environment_has_the_hosts_that_thrive_publishes(
        self, environment: str, public_api: str, user_api: str
    ) -> None:
        """An environment's name gives the hosts of the contract's table."""
        result = settings(THRIVE_ENVIRONMENT=f" {environment} ")

        assert (result.public_api, result.user_api) == (public_api, user_api)

    def test_there_are_four_environments(self) -> None:
        """The table above is whole."""
        assert len(ENVIRONMENTS) == 4

    @pytest.mark.parametrize("text", ["", " "], ids=["empty", "space"])
    def test_production_is_the_default(self, text: str) -> None:
        """An absent or empty environment is production."""
        for result in (settings(), settings(THRIVE_ENVIRONMENT=text), settings(THRIVE_BASE_URL=text)):
            assert Hosts(result.public_api, result.user_api) == PRODUCTION

    @pytest.mark.parametrize("environment", ["Production", "prod", "eu", "staging_mea", "canary"])
    def test_another_environment_is_refused(self, environment: str) -> None:
        """A name outside the table is refused with the names inside it."""
        assert str(refusal(THRIVE_ENVIRONMENT=environment)) == (
            "THRIVE_ENVIRONMENT: must be one of production, staging, production-mea, staging-mea"
        )

    def test_a_bad_environment_is_refused_beside_a_base_url(self) -> None:
        """The base URL replaces the hosts, but a bad name is still an error."""
        assert refusal(THRIVE_ENVIRONMENT="x", THRIVE_BASE_URL="https://a.example").variable == "THRIVE_ENVIRONMENT"

    @pytest.mark.parametrize("url", ACCEPTED_URLS.values(), ids=ACCEPTED_URLS)
    def test_an_accepted_base_url_replaces_both_hosts(self, url: str) -> None:
        """Over TLS any host is accepted, in plain text this machine's own alone; a trailing slash is dropped."""
        for text in (url, f"{url}/", f" {url}\n"):
            result = settings(THRIVE_BASE_URL=text, THRIVE_ENVIRONMENT="staging")

            assert (result.public_api, result.user_api) == (url, url)

    @pytest.mark.parametrize("url", REFUSED_URLS.values(), ids=REFUSED_URLS)
    def test_another_base_url_is_refused_without_being_echoed(self, url: str) -> None:
        """Plain text to another machine, credentials, paths, queries and tricks are refused in our own words."""
        error = refusal(THRIVE_BASE_URL=url)

        assert error.variable == "THRIVE_BASE_URL"
        assert str(error) == (
            "THRIVE_BASE_URL: must be https://host[:port] without a path, a query or credentials; http:// only to a "
            "loopback address, host.docker.internal or a docker bridge address (172.17.0.0/16)"
        )

    @given(
        st.from_regex(re.compile(r"(https?|HTTP)://[a-z0-9.:@/?#\[\]\\ -]{0,20}", re.ASCII), fullmatch=True) | st.text()
    )
    def test_any_base_url_is_bare_or_refused(self, url: str) -> None:
        """Whatever is set, what comes out is a bare scheme, host and port, and plain text stays on this machine."""
        try:
            result = settings(THRIVE_BASE_URL=url).public_api
        except SettingError:
            return
        if not url.strip():
            assert result == PRODUCTION.public_api
            return
        host = re.fullmatch(r"https?://([^/?#@\\\s]+?)(?::\d*)?", result, re.IGNORECASE)
        assert host is not None
        if result.lower().startswith("http:"):
            assert re.fullmatch(
                r"localhost|host\.docker\.internal|127\.\d+\.\d+\.\d+|172\.17\.\d+\.\d+|\[[0:]*:0*1(%.*)?\]|\[[0:]*:ffff:.*\]",
                host[1].lower(),
            )


@pytest.mark.parametrize("variable", ["DEAD_LETTER_QUEUE_URL", "RETRY_QUEUE_URL"])
class TestQueueUrls:
    """The two queues."""

    @pytest.mark.parametrize(
        "url", [QUEUE, f"{QUEUE}.fifo", "http://localhost:4566/000000000000/a", "https://queue.example/q"]
    )
    def test_good_queue_urls_pass_unchanged(self, variable: str, url: str) -> None:
        """A queue's URL has a scheme, a host and a path."""
        assert getattr(settings(**{variable: url}), VARIABLES[variable][0]) == url

    @pytest.mark.parametrize("url", REFUSED_QUEUE_URLS.values(), ids=REFUSED_QUEUE_URLS)
    def test_bad_queue_urls_are_refused(self, variable: str, url: str) -> None:
        """A name, an ARN or half a URL is refused with an example of what is wanted."""
        assert str(refusal(**{variable: url})) == (
            f"{variable}: must be the URL of an SQS queue, such as https://sqs.eu-west-2.amazonaws.com/…/name"
        )


@pytest.mark.parametrize(
    "variable",
    [
        "THRIVE_ENVIRONMENT",
        "THRIVE_BASE_URL",
        "THRIVE_SCOPE",
        "DEAD_LETTER_QUEUE_URL",
        "RETRY_QUEUE_URL",
        *NUMBERS,
    ],
)
def test_no_refusal_echoes_the_value(variable: str) -> None:
    """A value may be a secret pasted into the wrong field: no error holds it, and none is chained to one that does."""
    error = refusal(**{variable: f'{CANARY} "'})

    assert error.variable == variable
    assert CANARY not in f"{error!s} {error!r} {error.args} {vars(error)}"
    assert error.__cause__ is None
    assert error.__context__ is None
