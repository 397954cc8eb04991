"""What several commands use: options, completion, tables, progress."""
