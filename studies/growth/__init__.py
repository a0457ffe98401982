"""The study of growth. See README.md in this folder."""
