"""Engines: where weights live and how they are trained and sampled."""
