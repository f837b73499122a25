"""A mutation test of the modules that decide; see __main__."""
