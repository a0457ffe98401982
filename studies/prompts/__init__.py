"""The study of the words of prompts. See README.md in this folder."""
