"""Engines: where weights live and how they are trained and sampled."""

import os

# On a CPU torch's library makes a kernel for each size of a product in bfloat16 and keeps 1,024 of them twice over, half a
# megabyte each: texts of all lengths have so many sizes that a small model took twice its memory. It reads this at its first product.
os.environ.setdefault("LRU_CACHE_CAPACITY", "1")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
