"""Examples -> a fresh LoRA adapter on an immutable base: packed, masked, exact."""
