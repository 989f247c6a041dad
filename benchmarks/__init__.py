"""Speed and memory. Each script runs as `python -m benchmarks.NAME`; README.md holds the results."""
