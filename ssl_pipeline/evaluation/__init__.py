"""Evaluation of predictions: metrics, calibration, paired comparison, shift. numpy and scikit-learn, no torch."""
