"""How many requests an address, a person and a key may send, and how many things they may have open."""
