"""Base and adapter -> one GGUF, a tensor at a time."""
