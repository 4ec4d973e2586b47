"""`python -m trm.report` is `trm report`."""

import sys

from trm.report.html import main

if __name__ == "__main__":
    sys.exit(main())
