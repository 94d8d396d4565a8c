"""A picture of the terminal, as SVG."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

# A web font, which would be loaded from elsewhere, and not at all where a page shows the file as an image.
_WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def save(console: Console, path: Path, *, title: str, name: str) -> None:
    """Write what a recording console has printed; `name` makes the picture's style sheet its own within a page."""
    svg = console.export_svg(title=title, unique_id=name)
    path.write_text(_WEB_FONT.sub("", svg).replace("arial;", "arial, sans-serif;"), encoding="utf-8")
