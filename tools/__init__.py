"""The agent's tools, one a file. Owns what a tool may do; refuses to know which model asks or who looks on."""
