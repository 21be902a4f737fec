"""heedful: align a language model with what people say about it."""

__version__ = "0.1.0"
