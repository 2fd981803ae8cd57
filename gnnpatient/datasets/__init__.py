"""Cohorts that ship with the package, and simulated ones with a known truth."""
