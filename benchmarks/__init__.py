"""Measurements, never part of the test run: each command writes its own table, so that no figure is typed by hand."""
