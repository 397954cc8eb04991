"""Checking labels by hand: rows to check, what was found, how right the labels are."""
