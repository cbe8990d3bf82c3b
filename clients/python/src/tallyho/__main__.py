"""`python -m tallyho`: the command line."""

import sys

from tallyho.command_line import main

if __name__ == "__main__":
    sys.exit(main())
