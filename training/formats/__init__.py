"""Files of data sets become rows (`training.rows`). It runs in a child process, and needs no Django.

files.py      bytes become records: JSON, JSON lines, CSV, text, Parquet
shapes.py     which of the known shapes records have, and what each of their columns is
turns.py      messages of any shape become turns
reader.py     all of them together: a file becomes its head and its rows
problems.py   what can be wrong, as a word with its data; `training.problems` has the sentences
child.py      the process: reads the file, gives up its rights, answers with rows
"""
