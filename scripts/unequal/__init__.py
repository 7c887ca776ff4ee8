"""Heads on few and unequal examples: how they are drawn, solved and compared."""
