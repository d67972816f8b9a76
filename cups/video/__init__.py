"""Clips: which frames belong together, and which objects are the same in all of them."""
