"""What is searched, derived from the rows of chunks: per collection one index of vectors and one of words.

vectors.py      what an index of vectors does; faiss_index.py and pgvector_index.py do it
lexical.py      the index of words (BM25), with an analyzer for each language (analyzers.py)
rows.py         what the database says that an index should hold
host.py         all indexes of one process, brought up to date and searched
fusion.py       one ranking out of two
server.py       the host's doors in the process `model`; client.py is the way to them
"""
