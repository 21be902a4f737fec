"""The store's schema, step by step. A released step is never edited: stores out there were built by it.

How to add one is told in ``docs/store.md``.
"""
