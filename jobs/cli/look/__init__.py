"""Section Look."""
