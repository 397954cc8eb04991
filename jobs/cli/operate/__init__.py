"""Section Operate."""
