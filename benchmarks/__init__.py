"""Side-by-side benchmarks against released peers: `python -m benchmarks --list`."""
