"""Commands: thin layers over the library, run as `python launch/<command>.py --help`."""
