"""Are the backups well: doctor, status, report, metrics, notices, the gate before upgrades."""
