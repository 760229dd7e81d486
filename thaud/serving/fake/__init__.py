"""The strict fake Ollama in parts, lowest first.

protocol, gojson, store (what is on disk); gotemplate, goexecute, tools, prompts, autodetect (from turns to text);
gguf_checks, making (create); engine, runners, checks, answering, speaking (chat); reading (the short routes); faults;
server.
"""
