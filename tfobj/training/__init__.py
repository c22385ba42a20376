"""Experiments, the training step, the loop around it, and everything that a restart needs."""
