"""The model: encoder, heads, tokenizer, backbone; a model's directory and name; task files."""
