"""How fast the LE annotates, beside other methods to do it."""
