"""Tools of MCP servers: programs and sites that others wrote, named in `thau.toml`, approved by a person, called like
any tool. Owns the client's side of the protocol, by the `mcp` library; refuses to start what was not configured.
"""
