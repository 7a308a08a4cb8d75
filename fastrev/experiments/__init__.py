"""The command line: experiments of Maclaurin et al. (2015) on real data."""
