"""Where Mattermost is and how it runs: bundled, standalone, service, settings."""
