"""The command line: one thin file per command, one place (`main`) that catches errors, prints them and exits."""
