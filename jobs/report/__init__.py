"""The page about a finished output."""
