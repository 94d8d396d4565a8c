"""The pages that make promises name the tests that hold them; these tests see that they are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEFINED = {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
}


@pytest.mark.parametrize(
    "page",
    [
        "docs/guarantees.md",
        "docs/threat-model.md",
        "src/completion_sync/connections.py",
        "src/completion_sync/expressions.py",
    ],
)
def test_every_test_that_a_page_or_module_names_exists(page):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert named - DEFINED == set()


def test_every_promise_names_a_test():
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    promise = page.split("\n## The promise")[1].split("\n## ")[0]
    bullets = re.findall(r"^- .*(?:\n  .*)*", promise, flags=re.MULTILINE)
    assert bullets
    assert [bullet for bullet in bullets if "`test_" not in bullet] == []


PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("mappings/**/*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()] == []
