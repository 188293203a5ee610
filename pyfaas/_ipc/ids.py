"""The id of an invocation: 16 random bytes on the wire, a UUID of version 4 for people."""

from __future__ import annotations


def request_text(raw: bytes) -> str:
    """Write 16 bytes as a UUID of version 4, whose six fixed bits replace what the bytes say there.

    >>> request_text(bytes(16))
    '00000000-0000-4000-8000-000000000000'
    """
    text = raw.hex()
    variant = "89ab"[raw[8] >> 4 & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
