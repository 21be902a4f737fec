"""Evaluation: before against after on held-out prompts."""
