"""Lambda's runtime interface client on an import path of its own.

At AWS the function sees its own files and the runtime's, nothing else. Here the client lies among the packages of the
development environment, which would make up for whatever the artefact lacks. So it is linked into a folder apart.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

_CLIENT = "awslambdaric"
_NEEDS = ("simplejson", "snapshot-restore-py")


def is_installed() -> bool:
    """Tell whether the client is there; it comes for Linux only."""
    try:
        metadata.distribution(_CLIENT)
    except metadata.PackageNotFoundError:
        return False
    return True


def link_client(folder: Path) -> Path:
    """Link the client and what it needs into `folder` and return it; what is linked already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_CLIENT, *_NEEDS):
        distribution = metadata.distribution(name)
        for top in sorted({file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}):
            link = folder / top
            if not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return folder
