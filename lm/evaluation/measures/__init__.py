"""Measures of what was said against what is right, a file each; they know no model."""
