"""Models that people bring: added, looked at, exported, removed."""
