"""The commands behind the figures of BENCHMARKS.md; nothing here is installed with heedful."""
