"""`python -m trm.sweep` is `trm sweep`. The command line is in `cli`: dask's workers import this module again, without it."""

if __name__ == "__main__":
    import sys

    from trm.sweep.cli import main

    sys.exit(main())
