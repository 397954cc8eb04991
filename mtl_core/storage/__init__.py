"""Where files lie, in a folder or an object store, and the Parquet that is written there."""
