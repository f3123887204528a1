"""The course: every computation of the notes in a file of its own, to run, read and change.

A lesson is a module of this package. Its docstring is the page, `compute` does the work and returns
the values, `show` sets them out for the reader, and `draw`, where a picture helps, draws them.
`course.py` holds the order, `command.py` is `cnnlab lesson`, `pages.py` makes the static pages.
"""
