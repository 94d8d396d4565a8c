"""The function behind a clock that steps. Not part of the function: only the chaos test puts this on its import path.

`time.time` returns the true time plus the number of seconds in the file CLOCK_OFFSET_FILE, one double in the machine's
own byte order. It is mapped into memory, so that the test moves the clock while the function runs. The monotonic clock
is left alone, as it is when a machine's clock is set.
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
time.time = lambda: _true_time() + _offset[0]

from completion_sync import handler  # noqa: E402 - only now, since it takes the clock as it finds it


def lambda_handler(event: object, context: Any) -> dict[str, Any]:
    """Call the function's own handler.

    Lambda gives the deadline of an invocation by the wall clock of the same machine. The runtime emulator has stamped
    it by the true time, so it is moved to where the stepped clock would have put it.
    """
    context._epoch_deadline_time_in_ms += int(_offset[0] * 1000)
    return handler.lambda_handler(event, context)
