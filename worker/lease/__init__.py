"""Leases kept by beats, and brought back when they run out."""
