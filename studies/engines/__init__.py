"""The agreement of vLLM with the built-in engine. See README.md in this folder."""
