"""Names of things: class lists and prompt templates."""
