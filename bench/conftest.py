"""What pytest must not import by itself: these need JAX, without which its benchmarks are skipped with a word."""

collect_ignore = ["jax_peer.py", "report.py"]
