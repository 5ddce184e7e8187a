"""Frozen encoders, opened in one place."""
