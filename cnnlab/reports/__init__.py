"""Pages made of run directories: of one run, of a folder of them, of the labels that look wrong."""
