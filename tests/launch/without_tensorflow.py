"""Runs commands one after the other in a process without TensorFlow, as JSON in and out.

Reads a list of [command, arguments] from standard input. Writes for each its exit status, what it
printed, and those of the heavy packages that are loaded afterwards.
"""

import json
import pathlib
import sys

import command

HEAVY = ("tensorflow", "keras", "tensorflow_probability", "tensorflow_datasets", "matplotlib")


def main():
    answers = []
    for name, arguments in json.load(sys.stdin):
        finished = command.run(name, *arguments, cwd=pathlib.Path.cwd())
        loaded = [package for package in HEAVY if package in sys.modules]
        answers.append([*finished, loaded])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
