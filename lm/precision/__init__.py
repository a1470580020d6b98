"""Number formats: what state is kept in and what it is computed with."""
