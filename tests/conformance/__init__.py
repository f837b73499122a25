"""What the product relies on in a Mattermost server, as checks for real servers and for the lab's stand-in."""
