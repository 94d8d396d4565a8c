"""The measurements of `make bench`, run in their tiny form: that they work, never what they say."""

import functools
import json
import re
import subprocess
import sys

import pytest

from bench import __main__ as bench
from bench import backlog, money, report, tried
from completion_sync import transport
from completion_sync.observability import Telemetry

PAGE = "before\n<!-- bench:{} -->\nto be replaced\n<!-- /bench -->\nafter\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Give the results of a tiny run."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    assert bench.main(["--quick", "--results", str(file)]) == 0
    return json.loads(file.read_text())


def test_a_tiny_run_measures_everything(results):
    """A tiny run takes every measurement and checks the targets that it can."""
    assert results["measures"].keys() == bench.MEASURES.keys()
    assert results["derived"]["targets"]


def test_calls_are_counted_not_estimated(results):
    """The stand-in and the stub count our calls: one for each record, one token, one secret, none to SQS."""
    ours = results["measures"]["calls"]["ours"]
    assert ours["completions"] == ours["records"]
    assert (ours["tokens"], ours["secrets"], ours["other_aws"]) == (1, 1, 0)


@pytest.mark.parametrize("name", ["machine", "targets", "cold", "warm", "money", "in-flight", "summary"])
def test_marked_regions_are_written_anew(results, name):
    """What stands between the marks of a region is replaced, and nothing else."""
    page = report.renewed(PAGE.format(name), results)
    assert page.startswith(f"before\n<!-- bench:{name} -->\n")
    assert page.endswith("<!-- /bench -->\nafter\n")
    assert "to be replaced" not in page


def test_an_unknown_region_is_an_error(results):
    """A region that nobody writes is a mistake in the page."""
    with pytest.raises(KeyError):
        report.renewed(PAGE.format("unheard-of"), results)


def test_money_follows_from_durations():
    """A batch of 10 that is billed 100 ms at 512 MB makes 5,000 GB-seconds of a million completions."""
    durations = {"batch": 10, "rows": [{"latency_ms": 50, "memory_mb": 512, "billed_ms": {"ours": 100.0}}]}
    [row] = money.of_a_million(durations, {"ours": {"log_bytes_per_record": 500.0}})
    assert row["gb_seconds"] == 5_000
    assert row["logs_usd"] == pytest.approx(0.25)
    assert row["requests_usd"] == pytest.approx(0.02)


def test_a_backlog_drains_at_the_pace_of_its_environments():
    """Five environments at 100 ms for a batch of 10 take two seconds for a thousand messages."""
    assert backlog.drain_seconds(1_000, 10, 100.0, 5) == pytest.approx(2.0)


@pytest.mark.parametrize("module", sorted(change.module for change in tried.CHANGES if change.module))
def test_what_was_tried_still_fits_the_package(module: str) -> None:
    """Each variant is found, and what it replaces is there to be replaced."""
    program = f"import sys; sys.path[:0] = ['src', {str(tried.VARIANTS)!r}]; import {module}; {module}.lambda_handler"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tried.ROOT)
    source = (tried.VARIANTS / f"{module}.py").read_text(encoding="utf-8")
    replaced = re.findall(r"^((?:transport|Telemetry)[\w.]+) = ", source, flags=re.MULTILINE)
    assert replaced or 'sys.modules["boto3"] = ' in source
    for name in replaced:
        first, *path = name.split(".")
        assert functools.reduce(getattr, path, {"transport": transport, "Telemetry": Telemetry}[first])
