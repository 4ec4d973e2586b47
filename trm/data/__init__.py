"""Data sets, one file each: from files, the hub or a generator to numpy arrays."""
