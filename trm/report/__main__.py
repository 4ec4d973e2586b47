"""`python -m trm.report` is `trm report`."""

from trm.report.html import main

if __name__ == "__main__":
    raise SystemExit(main())
