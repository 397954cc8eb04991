"""Near copies: rows whose embeddings, or ends, are alike."""
