"""What a page asks of a model, and the page."""
