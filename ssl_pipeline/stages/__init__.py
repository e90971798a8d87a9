"""Stages of a cycle, one module each: paths and config in, a frozen result out."""
