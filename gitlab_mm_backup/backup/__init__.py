"""Make a set: of a running site, of what GitLab 19 left, of a disk."""
