"""Runs kept on any file system that fsspec knows, beside the local directory in which they work."""
