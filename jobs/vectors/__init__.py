"""What the stored embeddings say of an output: near copies, and drift."""
