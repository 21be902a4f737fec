"""Prompts: loading, chat templates, splits."""
