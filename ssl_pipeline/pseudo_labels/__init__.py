"""Pseudo-labels: selection strategies, guarantees and guards, the manifest, merging, audit. numpy and pandas, no torch."""
