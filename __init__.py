"""Makes `import tfobj` work in the folder that holds a clone called tfobj.

There Python takes the clone itself for the package, whose contents are one folder further down.
"""

import pathlib

if __name__ == "tfobj":
    _package = pathlib.Path(__file__).resolve().parent / "tfobj"
    __path__.insert(0, str(_package))
    exec(compile((_package / "__init__.py").read_text(), str(_package / "__init__.py"), "exec"))
