"""Text out of a model: sampling, continuation and filling of blanks, without a cache."""
