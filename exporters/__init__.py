"""The exporters room."""
