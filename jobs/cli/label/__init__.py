"""Section Label."""
