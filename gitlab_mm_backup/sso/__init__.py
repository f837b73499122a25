"""Sign-in through GitLab: credentials, check, repair, conversion of accounts."""
