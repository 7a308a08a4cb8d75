"""What the experiments share: their data, settings, judges, pictures and results, and the command line."""
