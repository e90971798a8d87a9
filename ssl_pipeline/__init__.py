"""Semi-supervised pseudo-labeling for face-attribute classification. Never imports Prefect."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_pipeline.inference.predictor import Predictor
    from ssl_pipeline.pseudo_labels.run_view import Run

__all__ = ["Predictor", "Run"]
__version__: str


def __getattr__(name: str) -> Any:
    """Import what needs torch or pandas, and look up the version, when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("ssl-pipeline")
    if name == "Predictor":
        from ssl_pipeline.inference.predictor import Predictor

        return Predictor
    if name == "Run":
        from ssl_pipeline.pseudo_labels.run_view import Run

        return Run
    raise AttributeError(f"module 'ssl_pipeline' has no attribute {name!r}")
