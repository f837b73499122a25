"""Sets: manifest, local and restic stores, archives, retention, verification."""
