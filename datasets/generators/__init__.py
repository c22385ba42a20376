"""Seeded procedural scenes in pure NumPy: scene i is a function of (seed, i) alone.

No module in this folder imports TensorFlow, so a host that trains with another framework can
generate the same data. Each generator offers three functions:

    factors(indices, ...)  what is in the scenes, without drawing them
    render(factors, ...)   image and mask from factors; also accepts published or edited factors
    scenes(indices, ...)   both

All of them are vectorised over scenes, and give the same scene whatever else is asked for in the
same call: shards, chunks and workers may be cut in any way.
"""
