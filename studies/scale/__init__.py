"""The simulation of many workers and many nodes. See README.md in this folder."""
