"""Many runs on whatever maps: what `workers=` is."""
