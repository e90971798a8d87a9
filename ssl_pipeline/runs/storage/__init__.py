"""Copies of runs on any fsspec file system, to continue them on another machine."""
