"""What a cold start loads: a new import costs every cold start, so each one is let in here by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OURS = {
    "authorization",
    "bootstrap",
    "completion",
    "credentials",
    "errors",
    "events",
    "handler",
    "observability",
    "outcomes",
    "queues",
    "retry",
    "settings",
    "snapstart",
    "sync",
    "thrive",
    "tokens",
    "transport",
}
# A library's parts count one by one where it is large and only parts of it are wanted.
LIBRARIES = {
    "aws_lambda_powertools",
    "aws_lambda_powertools.exceptions",
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.package_logger",
    "aws_lambda_powertools.shared",
    "aws_lambda_powertools.tracing",
    "aws_lambda_powertools.utilities",
    "aws_lambda_powertools.warnings",
    "botocore",
    "botocore.exceptions",
    "botocore.vendored",
    "jmespath",
    "snapshot_restore_py",
    "typing_extensions",
    "urllib3",
}
TAKEN_WHOLE = {"jmespath", "urllib3"}
# Of the standard library, what CPython 3.11 to 3.14 load between them; names with an underscore are its own affair.
NAMES = """
    __future__ annotationlib array ast atexit base64 binascii bisect bz2 calendar compression concurrent contextlib
    contextvars copy csv dataclasses datetime dis email encodings errno fnmatch glob grp gzip hashlib heapq hmac http
    importlib inspect ipaddress json keyword linecache locale logging lzma math mimetypes ntpath numbers opcode operator
    pathlib pwd queue quopri random re select selectors shutil socket ssl string stringprep struct tempfile textwrap
    threading token tokenize traceback types typing unicodedata urllib warnings weakref zipfile zlib
    collections copyreg enum functools itertools reprlib
"""
STANDARD_LIBRARY = set(NAMES.split())

# Runs in a process of its own, where nothing else has been imported yet.
PROBE = """
import json, sys
before = set(sys.modules)
from completion_sync import bootstrap, handler
imported = set(sys.modules) - before

class SecretsManager:
    def get_secret_value(self, **_):
        return {"SecretString": SECRET}

class Context:
    aws_request_id = "request"
    def get_remaining_time_in_millis(self):
        return 30_000

URL, SECRET = sys.argv[1:]
settings = bootstrap.Settings.from_env({"THRIVE_SECRET_ID": "thrive", "THRIVE_BASE_URL": URL})
application = bootstrap.build(settings, secrets=SecretsManager)
bootstrap.application = lambda: application

def serve(number):
    body = json.dumps({"userId": f"user-{number}", "contentId": "content", "completedAt": "2024-05-01T09:00:00Z"})
    record = {"eventSource": "aws:sqs", "messageId": f"message-{number}", "body": body}
    assert handler.lambda_handler({"Records": [record]}, Context()) == {"batchItemFailures": []}

serve(1)
first = set(sys.modules) - before - imported
serve(2)
warm = set(sys.modules) - before - imported - first
print(json.dumps([sorted(imported), sorted(first), sorted(warm)]))
"""


@pytest.fixture
def loaded(thrive):
    """Give the modules loaded by importing the handler, by a first batch, and by a warm one."""
    secret = json.dumps({"tenantId": thrive.tenant_id, "clientSecret": thrive.client_secret})
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, thrive.url, secret],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def unexpected(names):
    """Give the names that no list above lets in, a library's parts as far as its second level."""
    found = set()
    for name in names:
        top, _, rest = name.partition(".")
        if top == "completion_sync":
            found |= {name} if rest and rest not in OURS else set()
        elif top in sys.stdlib_module_names:
            found |= set() if top.startswith("_") or top in STANDARD_LIBRARY else {top}
        else:
            found.add(top if top in TAKEN_WHOLE else ".".join(name.split(".")[:2]))
    return found - LIBRARIES


def test_importing_the_handler_loads_nothing_new(loaded):
    """Importing the handler loads what is listed here and nothing else."""
    assert unexpected(loaded[0]) == set()


def test_importing_the_handler_loads_no_aws_client(loaded):
    """Importing the handler does not load boto3 or what makes botocore's clients: a first batch does, when it must."""
    assert not loaded[0] & {"boto3", "botocore.session", "botocore.client"}


def test_a_first_batch_loads_little_more(loaded):
    """Serving a first batch, AWS apart, loads nothing that is not listed here."""
    assert unexpected(loaded[1]) == set()


def test_a_warm_batch_loads_nothing(loaded):
    """Serving a warm batch loads no module at all."""
    assert loaded[2] == set()
