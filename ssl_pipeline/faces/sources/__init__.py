"""Where faces come from: one small file a kind of source, and `read_source`, which treats them all alike."""

from ssl_pipeline.faces.sources.reading import read_source

__all__ = ["read_source"]
