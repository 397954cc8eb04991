"""What users bring: found, told apart, read as a stream of rows."""
