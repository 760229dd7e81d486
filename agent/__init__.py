"""The agent: a served model that may use tools. Owns the loop, what is allowed, the record, the conversation."""
