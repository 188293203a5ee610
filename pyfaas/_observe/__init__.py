"""What is seen of invocations: log lines and counters."""
