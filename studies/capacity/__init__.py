"""The study of error against trainable parameters. See README.md in this folder."""
