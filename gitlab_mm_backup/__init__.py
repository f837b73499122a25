"""Backup, restore and way out for the Mattermost that came bundled with Omnibus GitLab."""
