"""Section Train."""
