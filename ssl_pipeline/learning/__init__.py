"""Room 3: torch. Models, losses, one training loop for teacher and student, checkpoints and prediction."""
