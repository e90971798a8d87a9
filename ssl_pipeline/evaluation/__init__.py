"""How good predictions are: metrics, calibration, paired comparison, shift. numpy and scikit-learn, no torch."""
