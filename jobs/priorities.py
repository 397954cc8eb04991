"""Priorities of jobs; apart from the messages, since naming them needs no Celery."""

PRIORITIES = ("high", "normal", "low")
"""In the order in which workers serve them."""
