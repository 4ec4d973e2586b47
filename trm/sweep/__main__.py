"""`python -m trm.sweep` is `trm sweep`. The command line is in `cli`: dask's workers import this module again, without it."""

if __name__ == "__main__":
    from trm.sweep.cli import main

    raise SystemExit(main())
