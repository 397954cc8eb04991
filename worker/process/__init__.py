"""A worker as a process: its children, cores, cards, logs, metrics, connections."""
