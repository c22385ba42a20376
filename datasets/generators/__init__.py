"""Seeded procedural scenes in pure NumPy: scene i is a function of (seed, i) alone.

No module in this folder imports TensorFlow, so a host that trains with another framework can
generate the same data. Each generator offers three functions:

    factors(indices, ...)  sample the contents of scenes, without rendering them
    render(factors, ...)   image and mask from factors; also accepts published or edited factors
    scenes(indices, ...)   both (`clips` where the scenes are video clips)

All of them are vectorised over scenes. A scene does not depend on the other indices of the call, so
the work can be split over shards, chunks and workers in any way.
"""
