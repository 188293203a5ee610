"""Runs a customer's scripts, good and bad ones; the host learns of each what happened.

    python examples/untrusted.py

Each script is text, as it might come from a form or a model. It runs in a process of its own, within limits.
Exit status 0 means that each script ended as expected.
"""

from __future__ import annotations

import re
import sys

import pyfaas

# name → (the script, the class of error that the host should get; None: a value)
SCRIPTS: dict[str, tuple[str, str | None]] = {
    "good": (
        """
def handler(event, context):
    print("adding up", len(event["prices"]), "prices")
    return {"total": sum(event["prices"])}
""",
        None,
    ),
    "raises": (
        """
def handler(event, context):
    print("looking for a price that is not there")
    return event["prices"][99]
""",
        "FunctionError",
    ),
    "loops for ever": (
        """
def handler(event, context):
    print("this may take a while")
    while True:
        pass
""",
        "FunctionTimeout",
    ),
    "eats memory": (
        """
def handler(event, context):
    print("one more megabyte, and one more")
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))
""",
        "OutOfMemory",
    ),
    "crashes": (
        """
import ctypes

def handler(event, context):
    print("reading address 0")
    ctypes.string_at(0)
""",
        "InstanceCrashed",
    ),
    "ends the process": (
        """
import os

def handler(event, context):
    print("leaving")
    os._exit(3)
""",
        "InstanceCrashed",
    ),
    "returns a wrong value": (
        """
def handler(event, context):
    return {"prices": [1, 2, {3, 4}]}
""",
        "InvalidResult",
    ),
    "is no Python": ("def handler(event, context) return 1", "InitError"),
}


def main() -> int:
    wrong = 0
    with pyfaas.Runtime() as rt:
        for name, (script, expected) in SCRIPTS.items():
            customer = rt.register("customer", code=pyfaas.Source(script), memory=128, timeout=0.5)
            outcome = customer.call({"prices": [3, 4, 5]})  # never raises for what the script did
            describe(name, outcome)
            wrong += (type(outcome.error).__name__ if outcome.error else None) != expected
    print("\nEach ended as expected." if not wrong else f"\n{wrong} did not end as expected.")
    return 1 if wrong else 0


def describe(name: str, outcome: pyfaas.Outcome[object]) -> None:
    """Print what the host got: whose fault it was, whether to try again, the last thing it said."""
    error = outcome.error
    print(f"\n{name}")
    if error is None:
        print(f"    value      {outcome.value}")
    else:
        print(f"    class      {type(error).__name__}")
        # AWS Lambda's own texts begin with the id of the invocation.
        print(f"    message    {re.sub('^RequestId: .* Error: ', '', str(error))[:80]}")
        print(f"    fault      {error.fault}, retryable: {error.retryable}")
    said = [line for line in outcome.logs.splitlines() if not line.startswith(("START ", "END ", "REPORT "))]
    print(f"    last line  {said[-1][:80] if said else '(nothing)'}")


if __name__ == "__main__":
    sys.exit(main())
