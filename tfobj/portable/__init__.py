"""Training on hosts that have only JAX and NumPy: the step of TensorFlow as a file, run there, and the result brought back.

    TensorFlow host   lowering, stablehlo, exporting   experiment -> folder with programs, state and data
    JAX host          artifact, scenes, scoring, runner   folder -> trained state; no TensorFlow, Keras, absl or SciPy
    TensorFlow host   importing                        trained state -> an ordinary run folder

`docs/jax_hosts.md` is the guide; the commands are `launch/export_step.py`, `launch/run_step.py` and `launch/import_state.py`.
"""
