"""The study of node dropout. See README.md in this folder."""
