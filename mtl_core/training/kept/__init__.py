"""What is computed once, before the first epoch, and kept in files."""
