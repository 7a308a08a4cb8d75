"""pytest-benchmark suites, and the peers that fastrev is held against."""
