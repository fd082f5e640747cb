"""Ways of transferring: one file each, one row each in `table`."""
