"""The strict fake Ollama in parts: protocol, store, making, engine, checks, speaking, reading, server."""
