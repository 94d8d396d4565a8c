"""Two baselines: one POST for each record over kept connections, with nothing validated, logged or counted."""

import os
from concurrent.futures import ThreadPoolExecutor

import urllib3

URL = f"{os.environ['THRIVE_BASE_URL']}/rest/v1/learning/completions"
# HTTP Basic, so that neither a token nor an AWS client is needed.
HEADERS = {"Content-Type": "application/json", "Authorization": os.environ["BENCH_AUTHORIZATION"]}
CONCURRENCY = int(os.environ["MAX_CONCURRENCY"])

http = urllib3.PoolManager(maxsize=CONCURRENCY)
executor = ThreadPoolExecutor(CONCURRENCY)


def post(record: dict) -> None:
    """Send one record's body as it is."""
    answer = http.request("POST", URL, body=record["body"], headers=HEADERS)
    if answer.status != 201:
        raise RuntimeError(f"Thrive answered {answer.status}")


def loop(event: dict, _context: object) -> dict:
    """Send one record after another."""
    for record in event["Records"]:
        post(record)
    return {"batchItemFailures": []}


def pool(event: dict, _context: object) -> dict:
    """Send the records in parallel."""
    list(executor.map(post, event["Records"]))
    return {"batchItemFailures": []}
