"""Files as the library kept them, and what makes them."""
