"""How far worst-case margins fall short."""
