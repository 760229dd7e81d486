"""Serving a version: one interface, two who keep it, and what keeps an Ollama server in step.

runtime.py         the interface;  door.py opens the one that is configured
embedded.py        llama.cpp in this process
ollama_runtime.py  a chat with a model on an Ollama server
ollama.py          everything else that is asked of a server;  address.py where it is;  ollama_errors.py how it fails
reconcile.py       making a server hold the versions and the alias;  registering.py brings one there
proving.py         what a model there must show before it has its name;  provenance.py whose it is
templates.py       the Go template that servers older than 0.30 need;  gguf_header.py reads the file's own
fake_ollama.py     a strict fake server, in parts under fake/
"""
