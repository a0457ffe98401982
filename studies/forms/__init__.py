"""The study of replies of two forms. See README.md in this folder."""
