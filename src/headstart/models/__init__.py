"""Encoders, heads, batching, prediction and model folders."""
