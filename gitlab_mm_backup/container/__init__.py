"""GitLab and Mattermost in containers: find them by their engine, and reach files and programs."""
