"""Semi-supervised pseudo-labeling for face-attribute classification. Never imports Prefect."""

from importlib.metadata import version

__version__ = version("ssl-pipeline")
