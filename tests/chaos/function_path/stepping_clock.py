"""The function behind a clock that steps. Not part of the function: only the chaos test puts this on its import path.

`time.time` gives what it always gives plus the number of seconds in the file CLOCK_OFFSET_FILE, one double in the
machine's own byte order, mapped into memory, so that the test moves the clock while the function runs. The monotonic
clock is left alone, as a step of the machine's clock leaves it alone.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any

with Path(os.environ["CLOCK_OFFSET_FILE"]).open("rb") as _file:
    _offset = memoryview(mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)).cast("d")

_true_time = time.time


def _stepped_time() -> float:
    return _true_time() + _offset[0]


time.time = _stepped_time

from completion_sync import handler  # noqa: E402 - only now: it takes the clock as it finds it


def lambda_handler(event: object, context: Any) -> dict[str, Any]:
    """Hand on to the function's own handler.

    Lambda tells the deadline of an invocation by the wall clock, and the function's machine has but one: the deadline
    that the runtime emulator has stamped by the true time is moved to where the stepped clock would have put it.
    """
    context._epoch_deadline_time_in_ms += int(_offset[0] * 1000)
    return handler.lambda_handler(event, context)
