"""The built-in world: dialogues, summaries, labelers, tiny models."""
