"""Semi-supervised pseudo-labeling for face attributes: a library of files in, files out. It never imports Prefect."""

__version__ = "0.1.0"
