"""Questions about the method, each with the script that measures and the report. See README.md in this folder."""
