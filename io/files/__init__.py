"""Files and folders, of this machine and of stores: paths, listing, reading, moving."""
