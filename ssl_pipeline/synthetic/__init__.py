"""Synthetic images without torch: people drawn from parameters, masks drawn on faces."""
