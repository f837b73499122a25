"""The state of the backups: doctor, status, report, metrics, notifications, the upgrade gate."""
