"""In-context evaluation: K solved examples of a task are shown, then a question is asked."""
