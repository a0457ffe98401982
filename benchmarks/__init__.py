"""Speed: this project beside the machine's floor and beside other libraries. See README.md in this folder."""
