"""Wrong inputs of every kind, drawn at random, and what becomes of them."""
