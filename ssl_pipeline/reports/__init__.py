"""Plots, tables, pages and contact sheets, rendered from plain records and tables."""
