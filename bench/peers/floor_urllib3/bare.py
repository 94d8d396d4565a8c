"""What both bare floors share: one POST for each record over kept connections; nothing checked, logged or counted."""

import json
import os
import urllib.parse

import urllib3

BASE_URL = os.environ["THRIVE_BASE_URL"]
# The secret's own text, so that no AWS client is needed: the floor is HTTP alone.
SECRET = json.loads(os.environ["BENCH_SECRET"])
HEADERS = {"Content-Type": "application/json", "Authorization": ""}

http = urllib3.PoolManager(maxsize=64)


def authorize() -> None:
    """Fetch one token, for good."""
    form = {"grant_type": "client_credentials", "scope": "api/write"}
    form |= {"client_id": SECRET["clientId"], "client_secret": SECRET["clientSecret"]}
    url = f"{BASE_URL}/oauth2/token/{urllib.parse.quote(SECRET['tenantId'])}"
    answer = http.request("POST", url, fields=form, encode_multipart=False)
    HEADERS["Authorization"] = f"Bearer {answer.json()['access_token']}"


def post(record: dict) -> None:
    """Send one record's body as it came."""
    http.request("POST", f"{BASE_URL}/rest/v1/learning/completions", body=record["body"], headers=HEADERS)
