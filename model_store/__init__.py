"""The model_store room."""
