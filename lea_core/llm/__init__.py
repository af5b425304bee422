"""The language model: loading, item tokens, packed inference."""
