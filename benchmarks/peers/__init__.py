"""The same work on other libraries and on heedful, each side as a process of its own."""
