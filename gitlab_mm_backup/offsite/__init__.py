"""Copies on other machines: rclone, upload, download, ledger, recovery kit."""
