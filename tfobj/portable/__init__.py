"""Trains on hosts that have only JAX and NumPy.

The step of TensorFlow becomes a file, which runs there, and the result is brought back.

    TensorFlow host   lowering, stablehlo,          experiment -> folder with programs, state,
                      exporting                     data
    JAX host          artifact, scenes, scoring,    folder -> trained state, without TensorFlow,
                      runner                        Keras, absl and SciPy
    TensorFlow host   importing                     trained state -> an ordinary run folder

`docs/jax_hosts.md` is the guide; the commands are `launch/export_step.py`, `launch/run_step.py` and
`launch/import_state.py`.
"""
