"""An example of a configuration in S3, which the demo and `sam local` use; and reading a folder like this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from completion_sync import catalogue, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = (mapping.FILE, catalogue.FILE)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return what a folder has of `mapping.json` and `content.csv`, by name. :raises OSError: a file cannot be read."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


EXAMPLE = read_files(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The files by name, and what the function's own parsers make of them."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    mapping: mapping.Mapping | None = None
    table: Mapping[str, str] | None = None


def parse(files: Mapping[str, bytes]) -> Configuration:
    """Return the configuration in these files. :raises ConfigError: one of them is invalid."""
    return Configuration(
        files,
        mapping.parse_mapping(files[mapping.FILE]) if mapping.FILE in files else None,
        catalogue.parse_table(files[catalogue.FILE]) if catalogue.FILE in files else None,
    )
