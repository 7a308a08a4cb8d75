"""What pytest must not import by itself: it needs packages without which its benchmarks are skipped with a word."""

collect_ignore = ["peers", "report.py", "one.py", "kernels.py"]
