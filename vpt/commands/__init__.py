"""The commands of `vpt`, a file for each group of them: `add_to(commands)` adds their parsers."""
