"""The smallest use: one function, called in a process of its own."""

import pyfaas

with pyfaas.Runtime() as rt:

    @rt.function(memory=256, timeout=3)
    def greet(event: dict[str, str], context: pyfaas.Context) -> dict[str, object]:  # AWS Lambda's signature
        return {"hello": event["name"], "left_ms": context.get_remaining_time_in_millis()}

    print(greet.invoke({"name": "Ada"}))  # the value, or raises

    outcome = greet.call({})  # never raises for the function's own failure
    print(f"{type(outcome.error).__name__}: {outcome.error}")
