"""Measurements, outside the test run; each command writes or prints its own table."""
