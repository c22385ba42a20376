"""Iterative amortised inference, owned by no model."""
