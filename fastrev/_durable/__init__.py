"""Runs on disk: what is killed goes on, there and back, to the same bits."""
