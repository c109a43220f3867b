"""The command line: run, demos, train, export, verify, evaluate and bench."""
