"""Backups of PostgreSQL: dumped, proved by restoring, kept, restored on request."""
