"""The kinds of frames, the same numbers as in native/core/pf_layout.h."""

from __future__ import annotations

from typing import Final

EVENT: Final = 0
PICKLED_EVENT: Final = 1
EVENT_WITH_BUFFERS: Final = 5

RESULT: Final = 0
PICKLE: Final = 1
ERROR: Final = 2
INVALID_RESULT: Final = 3
INVALID_EVENT: Final = 4
RESULT_WITH_BUFFERS: Final = 5
