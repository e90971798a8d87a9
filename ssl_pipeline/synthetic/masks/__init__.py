"""Masks drawn on photographs of bare faces, from parameters alone: no template files, no models."""
