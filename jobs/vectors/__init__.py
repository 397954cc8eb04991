"""What is done with the embeddings of finished outputs."""
