"""The step `certify`: is the file that will be served what was trained? A certificate says, section by section.

    {"format": 1, "gguf_sha256", "kind", "base_digest", "adapter_sha256", "passed", "reasons": [...],
     "prompts":  {"ok", "conversations", "equal", "refused", "held_out", "as_one_text", "by_transformers",
                  "differences": [...]},
     "tokens":   {"ok", "checked", "end_of_turn", "differences": [...]},
     "contents": {"ok", "tensors", "differences": [...]},
     "fidelity": {"ok", "source", "items", "positions", "top1", "bar", "allowed", "kl"},
     "change":   {"ok", "kl_from_base", "share", "share_of_weights", "bar"},
     "stops":    {"ok", "asked", "stopped", "bar"},
     "tools":    {"ok", "promised", "detail"}, "capabilities": ["completion", "tools"]}

An adapter's certificate also has "base_gguf_sha256" and "base_kind". Every figure is measured here; a section that is
not ok has at least one sentence in "reasons".
"""
