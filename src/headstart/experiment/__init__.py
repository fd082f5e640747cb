"""Comparisons: configuration, fits, records and the winner."""
