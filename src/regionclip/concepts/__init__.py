"""Names of things: class lists, prompt templates, and the concepts that captions name."""
