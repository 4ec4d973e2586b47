"""`python -m trm.sweep` is `trm sweep`. The command line is in `cli`: dask's workers import this module again, without it."""

if __name__ == "__main__":
    import sys

    from trm.cli import main

    raise SystemExit(main(["sweep", *sys.argv[1:]]))
