"""What runs in the child. It imports nothing of the site, and only what the format needs.

Its imports are relative, because `child` is the top of its world: see `embeddings/parsing/sandbox.py`.
"""
