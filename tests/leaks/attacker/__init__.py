"""A function that attacks its host with all that an instance has. The event names which, and a seed."""

from __future__ import annotations

from typing import Any

from . import channel, process
from .instance import ATTACKS, Attacker


def handler(event: dict[str, Any], context: Any) -> Any:
    """Attack, and if that comes back: answer."""
    ATTACKS[event["attack"]](Attacker(event["seed"], context.aws_request_id))
    return event


__all__ = ["ATTACKS", "channel", "handler", "process"]
