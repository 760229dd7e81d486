"""A GGUF and questions -> graded answers, by llama.cpp on the very file that will be served."""
