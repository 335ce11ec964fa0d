"""Answers that are made of documents: what may be read, what was found, how it is put to a model."""
