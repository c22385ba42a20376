"""`python -m tfobj train ...`, the command `tfobj` where scripts are not on the path."""

from tfobj import commands

if __name__ == "__main__":
    commands.main()
