"""Drawn people: stand-ins for real faces in the demo and the tests."""
