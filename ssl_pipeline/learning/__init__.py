"""Models, losses, training, checkpoints and prediction, in torch."""
