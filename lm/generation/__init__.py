"""Text out of a model: continuations, drawn or searched for, and blanks that are filled."""
