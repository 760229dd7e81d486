"""The public web, guarded: which addresses may be asked, how they are asked, and what comes back.

Owns every connection that a tool makes over HTTP, MCP servers' too; refuses to know what pages mean.
"""
