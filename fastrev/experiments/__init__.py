"""The experiments of Maclaurin et al. (2015) on real data, for the command line."""
