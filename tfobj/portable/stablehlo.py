"""Converts the HLO that TensorFlow makes of a step to a program that JAX runs and compiles.

    artifact = to_portable(lowered.hlo)                   # versioned StableHLO for later versions
    exported = to_exported(lowered.manifest, artifact, ("cpu", "cuda"))
    exported.call, exported.serialize()                   # a jax.export.Exported, for any platform

This is the only module of the package that touches private parts of JAX; a program that was made
here runs with JAX's public interface alone. TensorFlow is not needed.
"""

import contextlib
import dataclasses
import importlib
from typing import Any, NamedTuple

from tfobj.errors import UserError, unknown_name

TESTED_VERSIONS = ("0.10.2", "0.12.0.1")
"""The oldest and the newest JAX with which the private parts below were found to work."""

PRECISIONS = ("DEFAULT", "HIGH", "HIGHEST")

_CONVERTERS = (
    "hlo_to_stablehlo",
    "serialize_portable_artifact",
    "deserialize_portable_artifact",
)
_PRODUCTS = ("stablehlo.convolution", "stablehlo.dot_general", "stablehlo.dot")


def to_portable(hlo):
    """Converts a step to a versioned StableHLO artifact; the same bytes for the same step.

    TensorFlow writes one `mhlo.copy` per updated variable, which the TPU compiler refuses, and
    notes in `mhlo` attributes that JAX does not read (which result may reuse which argument, among
    others): both go.

    Args:
      hlo: serialized HloModuleProto, `LoweredStep.hlo`.

    Returns:
      bytes.

    Raises:
      UserError: JAX is missing, or its private parts have moved.
    """
    jax = _jax_parts()
    with jax.context():
        module = jax.ir.Module.parse(jax.mlir.hlo_to_stablehlo(hlo))
        for op in [module.operation, *_operations(module.operation)]:
            for name in _attribute_names(op):
                if name.startswith("mhlo."):
                    del op.attributes[name]
            if op.name == "mhlo.copy":
                op.results[0].replace_all_uses_with(op.operands[0])
                op.erase()

        for function in module.body:
            is_main = function.attributes["sym_name"].value == "main"
            visibility = jax.ir.StringAttr.get("public" if is_main else "private")
            function.attributes["sym_visibility"] = visibility
        return jax.mlir.serialize_portable_artifact(module, jax.stablehlo.get_current_version())


def force_precision(artifact, level="HIGHEST"):
    """Sets the precision of all convolutions and matrix products of an artifact.

    TensorFlow leaves it at DEFAULT, where a TPU multiplies in bfloat16 and a GPU may in TF32; JAX's
    own setting does not reach into a program that exists already.

    Args:
      artifact: bytes of `to_portable`.
      level: one of `PRECISIONS`; HIGHEST is full float32.

    Returns:
      bytes.
    """
    if level not in PRECISIONS:
        raise unknown_name("precision", level, PRECISIONS)
    jax = _jax_parts()
    with jax.context() as context:
        module = jax.mlir.deserialize_portable_artifact(artifact, context)
        precision = jax.stablehlo.PrecisionAttr.get(level)
        for op in _operations(module.operation):
            if op.name in _PRODUCTS:
                op.attributes["precision_config"] = jax.ir.ArrayAttr.get([precision, precision])
        return jax.mlir.serialize_portable_artifact(module, jax.stablehlo.get_current_version())


def to_text(artifact):
    """Returns the program of an artifact as text, constants shortened."""
    jax = _jax_parts()
    with jax.context() as context:
        module = jax.mlir.deserialize_portable_artifact(artifact, context)
        return module.operation.get_asm(large_elements_limit=16)


def to_exported(manifest, artifact, platforms):
    """Wraps an artifact as a public `jax.export.Exported`.

    Call it with one argument per entry of `manifest["params"]`, in their order; it returns one
    array per entry of `manifest["outputs"]`. Some arguments are int64: call it under
    `wide_integers()` or with JAX_ENABLE_X64=1.

    Args:
      manifest: `LoweredStep.manifest`.
      artifact: bytes of `to_portable` or `force_precision`.
      platforms: names in JAX's spelling, e.g. ("cuda",). The first becomes the label of the
        artifact and no more: nothing in a step belongs to one platform, JAX's check of the platform
        is switched off, and the artifact runs on all.

    Raises:
      UserError: JAX is missing.
    """
    jax = _import_jax()
    from jax import export

    def stub(*_):
        return tuple(jax.numpy.zeros(out["shape"], out["dtype"]) for out in manifest["outputs"])

    with wide_integers():
        arguments = [
            jax.ShapeDtypeStruct(tuple(p["shape"]), p["dtype"]) for p in manifest["params"]
        ]
        # Everything about the signature comes from a stub that has it; only the program is
        # exchanged. The stub is made for one platform, because JAX hands a program for several the
        # platform's number as its first argument.
        shell = export.export(jax.jit(stub, keep_unused=True), platforms=platforms[:1])(*arguments)
    return dataclasses.replace(
        shell,
        fun_name="train_step",
        mlir_module_serialized=artifact,
        module_kept_var_idx=tuple(range(len(arguments))),
        disabled_safety_checks=(export.DisabledSafetyCheck.platform(),),
    )


def wide_integers():
    """Returns a context in which JAX keeps int64 (the counter of the steps), not int32."""
    import jax

    return jax.enable_x64(True)


class _JaxParts(NamedTuple):
    """Private parts of JAX."""

    ir: Any
    """jaxlib.mlir.ir."""
    stablehlo: Any
    """jaxlib.mlir.dialects.stablehlo."""
    mlir: Any
    """Module with `_CONVERTERS`."""
    context: Any
    """Makes an MLIR context that knows the dialects."""


def _import_jax():
    try:
        import jax
    except ImportError as e:
        raise UserError(
            "Converting a step needs JAX: pip install 'tfobj[jax]', or in an environment of its "
            "own, with the compiler for TPUs, pip install 'tfobj[tpu-aot]'."
        ) from e
    return jax


def _jax_parts():
    jax = _import_jax()

    # Private parts move between versions.
    with contextlib.suppress(ImportError, AttributeError):
        mlir = importlib.import_module("jax._src.lib").xla_client._xla.mlir
        if all(hasattr(mlir, name) for name in _CONVERTERS):
            return _JaxParts(
                importlib.import_module("jaxlib.mlir.ir"),
                importlib.import_module("jaxlib.mlir.dialects.stablehlo"),
                mlir,
                importlib.import_module("jax._src.interpreters.mlir").make_ir_context,
            )
    raise UserError(
        f"Converting a step uses private parts of JAX that JAX {jax.__version__} does not have "
        f"where they were. Tested: JAX {TESTED_VERSIONS[0]} to {TESTED_VERSIONS[1]}; "
        f"pip install 'jax=={TESTED_VERSIONS[0]}' works."
    )


def _operations(operation):
    """Yields all operations inside `operation`, in order; those of nested regions too."""
    for region in operation.regions:
        for block in region:
            for op in block:
                yield op.operation
                yield from _operations(op.operation)


def _attribute_names(operation):
    return [a if isinstance(a, str) else a.name for a in operation.attributes]
