"""What a version's processes are made of: bytes that only the function's own processes will read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pyfaas._sandbox.plan import Limits

if TYPE_CHECKING:
    from pyfaas._config import FunctionConfig
    from pyfaas._functions.code import CodeImage

#: As AWS writes them, for a region and an account that do not exist.
_ARN = "arn:aws:lambda:local:000000000000:function:{name}"
_LOG_GROUP = "/aws/lambda/{name}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Code and settings, packed, and the plan of the confinement that comes before either is read."""

    name: str
    code: bytes
    settings: bytes
    plan: bytes
    init_timeout_ns: int


def deployment(name: str, config: FunctionConfig, image: CodeImage, init_timeout: float) -> Deployment:
    """Pack a version.

    Args:
        name: The function's.
        config: Its validated parameters.
        image: Its code.
        init_timeout: Seconds that init may take.
    """
    settings = {
        "name": name,
        "version": "$LATEST",
        "memory": config.memory,
        "timeout_ns": int(config.timeout * 1e9),
        "handler": image.handler,
        "env": dict(config.env or {}),
        "trusted": config.trusted,
        "log_group": _LOG_GROUP.format(name=name),
        "log_stream": f"$LATEST/{image.sha256[:32]}",
        "arn": _ARN.format(name=name),
        "max_payload": config.max_payload,
        "paths": [],
    }
    limits = Limits(memory=config.memory, scratch=config.ephemeral_storage, isolation=config.isolation)
    return Deployment(
        name, image.payload, msgspec.msgpack.encode(settings), limits.pack(), int(init_timeout * 1e9)
    )
