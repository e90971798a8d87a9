"""Prefect operations around the flows: deploy, command line, artifacts, events, limits, review, resume, stuck runs."""
