"""Damage, crashes and bad input, counted."""
