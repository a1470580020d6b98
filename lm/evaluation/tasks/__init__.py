"""What a model says to held-out examples, and how it is measured: a file for each task.

A member has the name of the objective that learns the task, and defines `MEASURES` (names, those
that are told by default first), `DEFAULT` (how many of them these are), `answers(examined)` and
`measures(answers, names)`.
"""
