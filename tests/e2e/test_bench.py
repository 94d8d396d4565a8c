"""The measurements of `make bench` in their quick form: that they work, never what they say."""

import json

import pytest

from bench import __main__ as bench
from bench import derived, report
from bench.contenders import ASYNC, CONTENDERS, LABELS, NODE, OURS
from bench.measures import MEASURES

# One run for all, also with pytest-xdist's `--dist loadgroup`.
pytestmark = pytest.mark.xdist_group("bench")

PAGE = "before\n<!-- bench:{} -->\nto be replaced\n<!-- /bench -->\nafter\n"
SUMMARY = PAGE.format("summary")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of a quick run."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    assert bench.main(["--quick", "--results", str(file)]) == 0
    return json.loads(file.read_text())


@pytest.fixture
def committed():
    """Return the results in the repository."""
    return json.loads(bench.RESULTS.read_text())


def test_a_quick_run_takes_every_measurement(results):
    assert results["measures"].keys() == MEASURES.keys()
    assert derived.targets(results["measures"])


def test_contenders_take_part_in_measurements_that_exist():
    assert set().union(*(contender.measures for contender in CONTENDERS)) == MEASURES.keys() - {"capacity"}


def test_calls_are_counted_by_the_called_services(results):
    ours = results["measures"]["calls"][OURS]
    assert ours["completions"] == ours["records"]
    assert (ours["tokens"], ours["secrets"], ours["other_aws"]) == (1, 1, 0)


@pytest.mark.parametrize("name", ["machine", "targets", "cold", "warm", "costs", "in-flight", "backlog", "summary"])
def test_marked_regions_are_replaced_and_nothing_else(results, name):
    page = report.renewed(PAGE.format(name), results)
    assert page.startswith(f"before\n<!-- bench:{name} -->\n")
    assert page.endswith("<!-- /bench -->\nafter\n")
    assert "to be replaced" not in page


def test_an_unknown_region_is_an_error(results):
    with pytest.raises(KeyError):
        report.renewed(PAGE.format("unheard-of"), results)


@pytest.mark.parametrize("page", bench.PAGES, ids=lambda page: page.name)
def test_pages_show_the_committed_results(committed, page):
    text = page.read_text(encoding="utf-8")
    assert report.renewed(text, committed) == text


def test_the_summary_says_which_peers_finish_a_large_batch_sooner(committed):
    assert f"{LABELS[ASYNC]} and {LABELS[NODE]} finish a batch of 100 sooner" in report.renewed(SUMMARY, committed)
    for row in committed["measures"]["warm"]:
        row["duration_ms"][OURS]["median"] = 0.0
    assert "sooner" not in report.renewed(SUMMARY, committed)


def test_a_batch_of_10_billed_100_ms_at_512_mb_makes_5000_gb_seconds_of_a_million_completions():
    durations = {"batch": 10, "rows": [{"latency_ms": 50, "memory_mb": 512, "billed_ms": {OURS: 100.0}}]}
    [row] = derived.costs({"durations": durations, "calls": {OURS: {"log_bytes_per_record": 500.0}}})
    assert row["gb_seconds"] == 5_000
    assert row["logs"] == pytest.approx(0.25)
    assert row["requests"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("messages", "maximum", "seconds"),
    [
        pytest.param(1_000, 5, 2.0, id="five environments from the start"),
        pytest.param(750, 20, 1.0, id="within the ramp: 5 at first, 10 after a second"),
        # 3,750 in the three seconds in which 5 become 20, and then 2,000 a second.
        pytest.param(5_750, 20, 4.0, id="beyond the ramp"),
    ],
)
def test_a_backlog_drains_at_the_pace_at_which_environments_are_added(messages, maximum, seconds):
    assert derived.drain_seconds(messages, 100.0, maximum) == pytest.approx(seconds)
