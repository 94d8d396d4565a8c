"""Sizes of what is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import artefacts, contenders

if TYPE_CHECKING:
    from bench.setting import Setting

WHO = (contenders.OURS, contenders.TAUGHT, contenders.ASYNC, contenders.NODE)


def measure(setting: Setting) -> dict[str, Any]:
    """Return bytes, zipped and unzipped."""
    return {
        contender.name: {
            "zipped": artefacts.zipped_bytes(contender.code),
            "unzipped": artefacts.unzipped_bytes(contender.code),
        }
        for contender in setting.field.some(*WHO)
    }
