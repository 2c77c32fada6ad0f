"""Program passes, one file each: frozen dataclasses that map a valid program to a valid program."""
