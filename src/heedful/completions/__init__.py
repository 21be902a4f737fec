"""Completions: sampling several per prompt."""
