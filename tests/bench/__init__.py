"""Measures pyfaas beside the machine's own floor and beside the process pools: see docs/benchmarks.md."""
