"""The benchmarks run: what they find is for docs/performance.md."""
