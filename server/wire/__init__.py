"""Framing: HTTP bodies to the service's messages and back. Nothing here knows a model, a store or Flask."""
