"""The words that the gate of the semantic cache knows, a module for each language."""
