"""The model: encoder, heads, tokenizer, backbone; its directory, its name."""
