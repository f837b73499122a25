"""Scenarios with a real Mattermost in the place of the lab's stand-in: make real-test MATTERMOST=DIR."""
