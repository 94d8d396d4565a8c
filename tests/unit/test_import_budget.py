"""What a cold start loads. A new import costs every cold start, so each one is listed here.

Any module of the package may be loaded; test_structure.py has their list.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

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
    "completion_sync",
    "jmespath",
    "snapshot_restore_py",
    "typing_extensions",
    "urllib3",
}
TAKEN_WHOLE = {"completion_sync", "jmespath", "urllib3"}
# Of the standard library, what CPython 3.11 to 3.14 load; names with an underscore are not ours to choose.
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
    """Return the modules loaded by importing the handler, by a first batch, and by a second one."""
    secret = json.dumps({"tenantId": thrive.tenant_id, "clientSecret": thrive.client_secret})
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", PROBE, thrive.url, secret]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def unexpected(names):
    """Return the names that are not listed above, a library's parts to the second level."""
    found = set()
    for name in names:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            found |= set() if top.startswith("_") or top in STANDARD_LIBRARY else {top}
        else:
            found.add(top if top in TAKEN_WHOLE else ".".join(name.split(".")[:2]))
    return found - LIBRARIES


def test_importing_the_handler_and_serving_load_only_what_is_listed(loaded):
    at_import, by_first_batch, by_second_batch = loaded
    assert unexpected(at_import) == set()
    assert unexpected(by_first_batch) == set()
    assert by_second_batch == set()
