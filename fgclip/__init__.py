"""The command line: one table of commands, and what all of them share. Imports nothing heavy."""
