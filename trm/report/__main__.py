"""`python -m trm.report` is `trm report`."""

import sys

from trm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["report", *sys.argv[1:]]))
