"""`python -m neuromas`: the command line."""

from neuromas.cli import main

if __name__ == "__main__":
    main()
