"""Every primitive, one block each."""
