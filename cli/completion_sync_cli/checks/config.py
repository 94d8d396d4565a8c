"""Check of the configuration in S3, with the operator's credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from completion_sync.catalogue import parse_table
from completion_sync.config import CONTENT_FILE, MAPPING_FILE
from completion_sync.errors import ConfigError
from completion_sync.mapping import parse_mapping

from ..config_source import Store
from .facts import Check, Facts

if TYPE_CHECKING:
    from collections.abc import Iterator


def config(facts: Facts) -> Iterator[Check]:
    """Check that there is a mapping or a content table, and that both are valid."""
    uri = facts.variables.get("CONFIG_URI")
    if not uri:
        yield Check("config", "skipped", "the stack has no CONFIG_URI: no mapping, no content codes")
        return
    store = Store(facts.aws.s3, uri)
    found = store.list()
    if not found:
        detail = f"neither {MAPPING_FILE} nor {CONTENT_FILE} is in {uri}: messages are deferred"
        yield Check("config", "failed", detail, "completion-sync config push DIR --yes")
        return
    try:
        if MAPPING_FILE in found:
            parse_mapping(store.read(MAPPING_FILE))
        if CONTENT_FILE in found:
            parse_table(store.read(CONTENT_FILE))
    except ConfigError as error:
        yield Check(
            "config",
            "failed",
            str(error),
            "Correct it, then completion-sync config validate DIR and config push DIR --yes.",
        )
        return
    yield Check("config", "ok", f"{', '.join(sorted(found))} in {uri}")


CHECKS = [config]
