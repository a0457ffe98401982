"""The study of estimators of credit. See README.md in this folder."""
