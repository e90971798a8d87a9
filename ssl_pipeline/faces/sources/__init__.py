"""Sources of faces: one reader per layout, and `read_source`, which treats all of them alike."""

from ssl_pipeline.faces.sources.reading import read_source

__all__ = ["read_source"]
